"""What `kit lab` gives JupyterLab: settings in overrides.json, and how it reads notebooks."""
