"""Other programs' files: torch's layouts and state dicts, public SN-GANs' checkpoints, recorded trainings."""
