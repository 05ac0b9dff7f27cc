//! Random streams: one ChaCha8 stream per job and purpose.
//!
//! The key of a stream is the SHA-256 hash of a canonical JSON text (scheme
//! version, configuration with defaults omitted, seed), the purpose is
//! ChaCha's stream number. So no two jobs share a stream unless an experiment
//! asks for pairing, and no result depends on threads, order or restart.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use sha2::{Digest, Sha256};

/// Version of everything that turns a key into draws. Bump it when draws change.
pub const RNG_SCHEME: u32 = 1;

/// What a stream is used for. The numbers are part of the scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Rows of the input embedding.
    InputEmbedding = 1,
    /// Rows of the output embedding.
    OutputEmbedding = 2,
    /// Trigger vector.
    Trigger = 3,
    /// Query (end of sequence) vector.
    Query = 4,
    /// Permutation from informative token to label.
    Permutation = 5,
    /// Training sequences.
    Train = 6,
    /// Fresh test sequences.
    Test = 7,
    /// Noise of the noisy oracle.
    Oracle = 8,
    /// Weights of the hidden layer, row by row.
    Hidden = 9,
    /// Configurations of a study, keyed by its seed instead of a job.
    Configuration = 64,
}

/// The 256-bit key from which all streams of a job derive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamKey([u8; 32]);

impl StreamKey {
    /// Hashes a canonical description of the job.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        StreamKey(Sha256::digest(text.as_bytes()).into())
    }

    /// The stream for one purpose, at its first word.
    #[must_use]
    pub fn stream(&self, purpose: Purpose) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::from_seed(self.0);
        rng.set_stream(purpose as u64);
        rng
    }
}

/// Hexadecimal SHA-256 of a text.
#[must_use]
pub fn sha256_hex(text: &str) -> String {
    Sha256::digest(text.as_bytes())
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::Rng;

    #[test]
    fn no_two_purposes_and_no_two_keys_share_a_stream() {
        let purposes = [
            Purpose::InputEmbedding,
            Purpose::OutputEmbedding,
            Purpose::Trigger,
            Purpose::Query,
            Purpose::Permutation,
            Purpose::Train,
            Purpose::Test,
            Purpose::Oracle,
            Purpose::Hidden,
            Purpose::Configuration,
        ];
        let mut words: Vec<u64> = ["job 1", "job 2"]
            .into_iter()
            .flat_map(|text| {
                let key = StreamKey::from_text(text);
                purposes.map(|purpose| key.stream(purpose).next_u64())
            })
            .collect();
        let all = words.len();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), all);
    }
}
