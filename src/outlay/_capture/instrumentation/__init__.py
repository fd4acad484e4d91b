"""How libraries are patched, and their responses observed."""
