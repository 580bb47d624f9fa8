//! Tensors as the edges show them: what they are, how they are stored, what is in them.

use serde::{Deserialize, Serialize};
use serde_json::Number;

use crate::float::JsonFloat;

wire! {
    /// A tensor of a checkpoint.
    pub struct TensorInfo {
        /// Dotted name.
        pub name: String,
        /// Entry it is in.
        pub entry: String,
        /// Component and rank that wrote it.
        pub part: String,
        /// Element type.
        pub dtype: String,
        /// Shape here.
        pub shape: Vec<u64>,
        /// Global shape of a shard.
        pub global_shape: Option<Vec<u64>>,
        /// Bytes.
        pub bytes: u64,
        /// How its bytes are kept in this store; absent where nobody asked, and of a tensor without bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub encoding: Option<TensorEncoding>,
    }

    /// How the bytes of a tensor are kept now; encoding goes on in the background, so that it may be another later.
    pub struct TensorEncoding {
        /// The encoding of its chunks.
        pub kind: EncodingKind,
        /// Most differences that lie between one of its chunks and a full one; 0 if none of them is a difference.
        pub depth: u64,
        /// Its share of the objects that hold it, by bytes: small tensors share an object. What the differences are to is not counted.
        pub stored_bytes: u64,
    }

    /// What is in a tensor.
    ///
    /// The element of a complex dtype counts by its magnitude, a bool as 0 or 1.
    pub struct TensorStatistics {
        /// Which one: its place in the list of the checkpoint's tensors, from 0.
        pub tensor: u64,
        /// Elements; of a shard, those that are here.
        pub elements: u64,
        /// Elements that are not a number.
        pub nan: u64,
        /// Elements that are +Infinity.
        pub positive_infinity: u64,
        /// Elements that are -Infinity.
        pub negative_infinity: u64,
        /// About the elements that are finite; null if there are none, and of a dtype that holds no numbers.
        pub finite: Option<FiniteStatistics>,
    }

    /// What is in the finite elements of a tensor. Sums are taken in f64; a sum of squares beyond its range is Infinity.
    pub struct FiniteStatistics {
        /// The smallest, exact: an integer of an integer dtype or bool.
        #[cfg_attr(feature = "openapi", schema(value_type = f64))]
        pub min: Number,
        /// The largest, exact.
        #[cfg_attr(feature = "openapi", schema(value_type = f64))]
        pub max: Number,
        /// The arithmetic mean.
        pub mean: JsonFloat,
        /// The standard deviation of the population: divided by the number of elements, not by one less.
        pub std: JsonFloat,
        /// The Euclidean norm: the square root of the sum of squares.
        pub norm: JsonFloat,
    }
}

impl TensorStatistics {
    /// Elements that are not finite.
    pub fn nonfinite(&self) -> u64 {
        self.nan + self.positive_infinity + self.negative_infinity
    }
}

/// How the chunks of a tensor are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum EncodingKind {
    /// As they are.
    Raw,
    /// Byte planes, compressed.
    Planes,
    /// The difference to a chunk of another checkpoint.
    Difference,
    /// Some one way, some another.
    Mixed,
    /// Some are not in this store.
    Missing,
}
