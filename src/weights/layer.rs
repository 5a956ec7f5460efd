//! Attributes of pickled modules.

/// Attributes of a module in a `.pth` of `torch.save(model)`, which its tensors do not determine.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LayerAttributes {
    /// Name of its class.
    pub class: String,
    /// Stride of a convolution along rows and columns.
    pub stride: Option<[u64; 2]>,
    /// Dilation of a convolution along rows and columns.
    pub dilation: Option<[u64; 2]>,
    /// Padding of a convolution at the top and at the left. `None` if it is not a number.
    pub padding: Option<[u64; 2]>,
    /// Epsilon of a batch norm.
    pub eps: Option<f64>,
}
