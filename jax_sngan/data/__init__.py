"""Images and labels from files, folders, archives and official sources, in memory or read as they are asked for."""
