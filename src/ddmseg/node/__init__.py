"""The DICOM node: takes scans over the network, segments them, sends the results on."""
