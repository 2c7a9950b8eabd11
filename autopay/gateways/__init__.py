"""Payment gateway adapters: one file each, behind one port."""
