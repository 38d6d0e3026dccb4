"""Use LAP models elsewhere: exported, as a captum method, and in timm's registry."""
