// An option is searched as it is typed, --steps: to the search engine a dash in front of a word would leave the word out.
document.addEventListener("keyup", ({ target }) => {
  if (target instanceof HTMLInputElement && target.dataset.mdComponent === "search-query") {
    const plain = target.value.replace(/(^|\s)-+/g, "$1");
    if (plain !== target.value) target.value = plain;
  }
}, true);
