//! Tensors as PyTorch stores them: views of storages.

use std::rc::Rc;

/// The type of a tensor's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dtype {
    F16,
    BF16,
    F32,
    Bool,
    U8,
    U16,
    I32,
    I64,
}

impl Dtype {
    /// The type of `torch.NAME`.
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "float16" => Self::F16,
            "bfloat16" => Self::BF16,
            "float32" => Self::F32,
            "bool" => Self::Bool,
            "uint8" => Self::U8,
            "uint16" => Self::U16,
            "int32" => Self::I32,
            "int64" => Self::I64,
            _ => return None,
        })
    }

    /// The type of the numbers of a `torch.NAMEStorage`.
    pub fn of_storage(name: &str) -> Option<Self> {
        Some(match name {
            "Half" => Self::F16,
            "BFloat16" => Self::BF16,
            "Float" => Self::F32,
            "Bool" => Self::Bool,
            "Byte" => Self::U8,
            "Int" => Self::I32,
            "Long" => Self::I64,
            _ => return None,
        })
    }

    /// Bytes of a number.
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Bool | Self::U8 => 1,
            Self::F16 | Self::BF16 | Self::U16 => 2,
            Self::F32 | Self::I32 => 4,
            Self::I64 => 8,
        }
    }
}

/// The bytes that tensors are views of.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Storage {
    /// The type of its numbers, unless only the tensor names it.
    pub dtype: Option<Dtype>,
    /// Its name in the file.
    pub key: Rc<str>,
    /// How many numbers it has; bytes if it has no type.
    pub count: u64,
}

impl Storage {
    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        self.count.saturating_mul(self.dtype.map_or(1, Dtype::bytes))
    }
}

/// A view of a storage. Offset and strides count numbers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tensor {
    pub storage: Rc<Storage>,
    pub dtype: Dtype,
    pub offset: u64,
    pub size: Vec<u64>,
    pub stride: Vec<u64>,
}

impl Tensor {
    /// Rejects a view that leaves its storage, or that has a number of it in several places: such a view can be far larger
    /// than the file.
    pub fn check(&self) -> Result<(), String> {
        let steps = self
            .size
            .iter()
            .zip(&self.stride)
            .try_fold(0u64, |sum, (size, stride)| sum.checked_add(size.saturating_sub(1).checked_mul(*stride)?));
        let last = steps.and_then(|steps| steps.checked_add(self.offset));
        let end = last.and_then(|last| last.checked_add(1)?.checked_mul(self.dtype.bytes()));
        let numbers = self.size.iter().try_fold(self.dtype.bytes(), |bytes, size| bytes.checked_mul(*size));
        let fits = |bytes: Option<u64>| bytes.is_some_and(|bytes| bytes <= self.storage.bytes());
        let is_empty = self.size.contains(&0);
        match fits(end) && fits(numbers) || is_empty {
            true if self.size.len() == self.stride.len() => Ok(()),
            _ => Err(format!(
                "a tensor of size {:?}, stride {:?} and offset {} in a storage of {} bytes",
                self.size,
                self.stride,
                self.offset,
                self.storage.bytes()
            )),
        }
    }
}

/// A tensor with its numbers.
#[derive(Debug)]
pub(super) struct Array {
    pub dtype: Dtype,
    pub size: Vec<u64>,
    offset: u64,
    stride: Vec<u64>,
    bytes: Rc<[u8]>,
}

impl Array {
    /// The view that `tensor` is of the bytes of its storage.
    pub fn new(tensor: &Tensor, bytes: Rc<[u8]>) -> Self {
        let Tensor { dtype, offset, size, stride, .. } = tensor.clone();
        Self { dtype, size, offset, stride, bytes }
    }

    /// The bytes of the number at `index`, which must be within the size; zeros follow them.
    fn number(&self, index: &[u64]) -> [u8; 8] {
        let place = self.offset + index.iter().zip(&self.stride).map(|(index, stride)| index * stride).sum::<u64>();
        let (start, length) = ((place * self.dtype.bytes()) as usize, self.dtype.bytes() as usize);
        let mut number = [0; 8];
        number[..length].copy_from_slice(&self.bytes[start..start + length]);
        number
    }

    /// A number of a type of floats.
    pub fn float(&self, index: &[u64]) -> f64 {
        let [a, b, c, d, ..] = self.number(index);
        match self.dtype {
            Dtype::F16 => half::f16::from_le_bytes([a, b]).to_f64(),
            Dtype::BF16 => half::bf16::from_le_bytes([a, b]).to_f64(),
            _ => f32::from_le_bytes([a, b, c, d]).into(),
        }
    }

    /// A number of a type of natural numbers.
    pub fn natural(&self, index: &[u64]) -> u64 {
        u64::from_le_bytes(self.number(index))
    }
}
