"""DICOM series in and segmentations out."""
