"""Diagnoses of networks that others trained: pneumonia on chest radiographs, and an attribute of faces."""
