"""What this machine's processor is like."""

from pathlib import Path


def cache() -> int:
    """Bytes of a core's second-level cache; 512 KiB where the system does not tell."""
    path = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")
    told = path.read_text().strip() if path.exists() else ""
    return int(told[:-1]) * 2**10 if told.endswith("K") and told[:-1].isdigit() else 2**19
