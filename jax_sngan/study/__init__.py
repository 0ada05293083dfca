"""The GAN family side by side: what is run (plan), the runs, and the page that tells what they measured."""
