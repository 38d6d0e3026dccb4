"""Use LAP models elsewhere: exported, in captum, in timm's registry."""
