//! Names that PyTorch code bases share.
