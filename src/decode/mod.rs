//! Decoders of the first gradient: guesses at the permutation from `G`, the embeddings and the
//! label counts, and from nothing else of the batch.
//!
//! They are what the lower bounds of `recall_theory::lower_bound` are set beside. Derivations, and
//! what each decoder assumes, stand in `decode.md`. All sizes are dense in the vocabulary:
//! `O(V^2 d)` time per decoder (AMP: per iteration), `O(V^2)` memory.

mod amp;
mod assignment;
mod gradient;
mod matched;
pub mod query;
mod whitened;

pub use gradient::FirstGradient;

use serde::{Deserialize, Serialize};

use crate::descent::early::Count;
use crate::linalg::{Matrix, argmax};
use crate::task::Permutation;

/// Largest vocabulary that the decoders take: their tables are dense.
pub const MAX_VOCAB: usize = 1024;

/// A way to guess the permutation from the first gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decoder {
    /// `argmax_j z_in(v)^T G z_out(j)`, token by token.
    MatchedFilter,
    /// The permutation that maximises the sum of the same scores.
    MatchedFilterAssigned,
    /// Largest likelihood after whitening the sampling noise on both sides, token by token.
    Whitened,
    /// The permutation that maximises the sum of the same log likelihoods.
    WhitenedAssigned,
    /// Approximate message passing, its last scores read token by token.
    Amp,
    /// The permutation that maximises the sum of the last scores of message passing.
    AmpAssigned,
}

impl Decoder {
    /// All decoders, in the order of records and figures.
    pub const ALL: [Decoder; 6] = [
        Decoder::MatchedFilter,
        Decoder::MatchedFilterAssigned,
        Decoder::Whitened,
        Decoder::WhitenedAssigned,
        Decoder::Amp,
        Decoder::AmpAssigned,
    ];

    /// Words for tables and legends.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Decoder::MatchedFilter => "matched filter",
            Decoder::MatchedFilterAssigned => "matched filter, assigned",
            Decoder::Whitened => "whitened",
            Decoder::WhitenedAssigned => "whitened, assigned",
            Decoder::Amp => "AMP",
            Decoder::AmpAssigned => "AMP, assigned",
        }
    }
}

/// A set of decoders; written as a list in the order of [`Decoder::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Decoder>", into = "Vec<Decoder>")]
pub struct DecoderSet(u8);

impl DecoderSet {
    /// No decoder.
    pub const NONE: DecoderSet = DecoderSet(0);

    /// Whether a decoder is in the set.
    #[must_use]
    pub fn contains(self, decoder: Decoder) -> bool {
        self.0 & (1 << decoder as u8) != 0
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The decoders in the order of [`Decoder::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Decoder> {
        Decoder::ALL.into_iter().filter(move |d| self.contains(*d))
    }
}

impl From<Vec<Decoder>> for DecoderSet {
    fn from(list: Vec<Decoder>) -> Self {
        list.into_iter().collect()
    }
}

impl From<DecoderSet> for Vec<Decoder> {
    fn from(set: DecoderSet) -> Self {
        set.iter().collect()
    }
}

impl FromIterator<Decoder> for DecoderSet {
    fn from_iter<I: IntoIterator<Item = Decoder>>(list: I) -> Self {
        DecoderSet(list.into_iter().fold(0, |set, d| set | 1 << d as u8))
    }
}

/// Tokens that one decoder guessed right in one trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decoded {
    /// The decoder.
    pub decoder: Decoder,
    /// Tokens with the right label, out of `V`.
    pub correct: Count,
}

/// Runs the decoders of a set on a gradient and counts the tokens each has right.
#[must_use]
pub fn decode(
    gradient: &FirstGradient,
    decoders: DecoderSet,
    permutation: &Permutation,
) -> Vec<Decoded> {
    let any = |list: [Decoder; 2]| list.into_iter().any(|d| decoders.contains(d));
    let mut results = Vec::new();
    let mut judge = |plain: Decoder, assigned: Decoder, scores: &Matrix<f64>| {
        for decoder in [plain, assigned] {
            if decoders.contains(decoder) {
                let guess = if decoder == plain {
                    per_token(scores)
                } else {
                    assignment::largest(scores)
                };
                let correct = count(&guess, permutation);
                results.push(Decoded { decoder, correct });
            }
        }
    };
    let pair = [Decoder::MatchedFilter, Decoder::MatchedFilterAssigned];
    if any(pair) {
        judge(pair[0], pair[1], &matched::scores(gradient));
    }
    let (white, message) = (
        [Decoder::Whitened, Decoder::WhitenedAssigned],
        [Decoder::Amp, Decoder::AmpAssigned],
    );
    if any(white) || any(message) {
        let channel = whitened::Channel::new(gradient);
        if any(white) {
            judge(white[0], white[1], &channel.log_likelihood());
        }
        if any(message) {
            judge(message[0], message[1], &amp::scores(&channel));
        }
    }
    results
}

/// Best label of every token; the lowest among equals.
fn per_token(scores: &Matrix<f64>) -> Vec<usize> {
    (0..scores.rows()).map(|v| argmax(scores.row(v))).collect()
}

fn count(guess: &[usize], permutation: &Permutation) -> Count {
    let hits = guess
        .iter()
        .zip(permutation.labels())
        .filter(|(g, y)| **g == **y as usize)
        .count();
    Count {
        hits: hits as u64,
        total: guess.len() as u64,
    }
}

#[cfg(test)]
mod tests;
