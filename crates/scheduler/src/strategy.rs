//! What an operator chooses about packing: [`Strategy`].

use serde::{Deserialize, Serialize};

/// Which of two nodes is better when replicas are spread equally.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// The one that has more left: other people's laptops stay quiet, and a loss is small.
    #[default]
    Spread,
    /// The one that has less left: large nodes stay free for what is large.
    Pack,
}
