//! ChaCha8 blocks at arbitrary places of a stream, sixteen at a time.
//!
//! `rand_chacha` draws 64 consecutive words at once on two vectors of 256 bits. Training samples
//! are read in the order of their labels, that is at places that jump, and with AVX-512 sixteen
//! unrelated blocks cost less a word than that. The words are the same to the last bit, with
//! and without (`tests` below); `docs/speed.md` keeps the measurement.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

/// Words of a block.
pub(crate) const BLOCK: usize = 16;
/// Blocks made at a time.
pub(crate) const LANES: usize = 16;

/// A stream of 32-bit words that is read at any place.
#[derive(Debug, Clone)]
pub(crate) struct Keystream {
    /// Draws where no wide kernel exists.
    rng: ChaCha8Rng,
    #[cfg(target_arch = "x86_64")]
    wide: Option<x86::Wide>,
}

impl Keystream {
    /// The stream of which `rng` is a reader.
    pub(crate) fn new(rng: ChaCha8Rng) -> Self {
        Keystream {
            #[cfg(target_arch = "x86_64")]
            wide: x86::Wide::new(&rng),
            rng,
        }
    }

    /// The stream without a wide kernel.
    #[cfg(test)]
    fn narrow(rng: ChaCha8Rng) -> Self {
        Keystream {
            #[cfg(target_arch = "x86_64")]
            wide: None,
            rng,
        }
    }

    /// Whether single blocks are cheap at any place.
    pub(crate) fn is_wide(&self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            self.wide.is_some()
        }
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// The blocks with these numbers; block `b` holds words `16 b..16 b + 16`.
    pub(crate) fn blocks(&mut self, numbers: &[u64; LANES], out: &mut [[u32; BLOCK]; LANES]) {
        #[cfg(target_arch = "x86_64")]
        if let Some(wide) = &self.wide {
            wide.blocks(numbers, out);
            return;
        }
        for (number, block) in numbers.iter().zip(out) {
            self.rng.set_word_pos(BLOCK as u128 * u128::from(*number));
            for word in block {
                *word = self.rng.next_u32();
            }
        }
    }

    /// Fills piece `k` of `out`, `width` words long, from word `width * places[k]` of the stream.
    pub(crate) fn read(&mut self, places: &[u32], width: usize, out: &mut [u32]) {
        if !self.is_wide() {
            for (place, piece) in places.iter().zip(out.chunks_exact_mut(width)) {
                self.rng.set_word_pos(u128::from(*place) * width as u128);
                for word in piece {
                    *word = self.rng.next_u32();
                }
            }
            return;
        }
        let (mut numbers, mut target) = ([0u64; LANES], [(0usize, 0usize, 0usize); LANES]);
        let mut blocks = [[0u32; BLOCK]; LANES];
        let mut used = 0;
        for (k, place) in places.iter().enumerate() {
            let first = u64::from(*place) * width as u64;
            let mut word = first;
            let end = first + width as u64;
            while word < end {
                let inside = (word % BLOCK as u64) as usize;
                let count = (BLOCK - inside).min((end - word) as usize);
                numbers[used] = word / BLOCK as u64;
                target[used] = (k * width + (word - first) as usize, inside, count);
                word += count as u64;
                used += 1;
                if used == LANES {
                    self.blocks(&numbers, &mut blocks);
                    copy(&target, &blocks, out);
                    used = 0;
                }
            }
        }
        if used > 0 {
            self.blocks(&numbers, &mut blocks);
            copy(&target[..used], &blocks, out);
        }
    }
}

/// Copies the wanted part of each block: `(to, from, count)`.
fn copy(target: &[(usize, usize, usize)], blocks: &[[u32; BLOCK]; LANES], out: &mut [u32]) {
    for (&(to, from, count), block) in target.iter().zip(blocks) {
        if count == BLOCK {
            out[to..to + BLOCK].copy_from_slice(block);
        } else {
            out[to..to + count].copy_from_slice(&block[from..from + count]);
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
mod x86 {
    use std::arch::x86_64::{
        __m512i, _mm512_add_epi32, _mm512_rol_epi32, _mm512_set_epi32, _mm512_shuffle_epi32,
        _mm512_shuffle_i32x4, _mm512_storeu_si512, _mm512_xor_si512,
    };

    use rand_chacha::ChaCha8Rng;

    use super::{BLOCK, LANES};

    /// Key and stream number; exists only where the processor has AVX-512.
    #[derive(Debug, Clone)]
    pub(super) struct Wide {
        key: [u32; 8],
        stream: [u32; 2],
    }

    /// "expand 32-byte k".
    const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

    impl Wide {
        pub(super) fn new(rng: &ChaCha8Rng) -> Option<Self> {
            if !is_x86_feature_detected!("avx512f") {
                return None;
            }
            let seed = rng.get_seed();
            let mut key = [0; 8];
            for (word, bytes) in key.iter_mut().zip(seed.chunks_exact(4)) {
                *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
            let stream = rng.get_stream();
            Some(Wide {
                key,
                stream: [stream as u32, (stream >> 32) as u32],
            })
        }

        pub(super) fn blocks(&self, numbers: &[u64; LANES], out: &mut [[u32; BLOCK]; LANES]) {
            // SAFETY: `new` made this value, and does so only where the processor has AVX-512F.
            unsafe { blocks(self, numbers, out) }
        }
    }

    /// Four blocks: one row of four words of each in a vector.
    type Rows = [__m512i; 4];

    #[target_feature(enable = "avx512f")]
    fn same(words: [u32; 4]) -> __m512i {
        let [a, b, c, d] = words.map(u32::cast_signed);
        _mm512_set_epi32(d, c, b, a, d, c, b, a, d, c, b, a, d, c, b, a)
    }

    #[target_feature(enable = "avx512f")]
    fn counters(stream: [u32; 2], numbers: &[u64]) -> __m512i {
        let low = |i: usize| (numbers[i] as u32).cast_signed();
        let high = |i: usize| ((numbers[i] >> 32) as u32).cast_signed();
        let [s, t] = stream.map(u32::cast_signed);
        _mm512_set_epi32(
            t,
            s,
            high(3),
            low(3),
            t,
            s,
            high(2),
            low(2),
            t,
            s,
            high(1),
            low(1),
            t,
            s,
            high(0),
            low(0),
        )
    }

    /// Four quarter rounds at once, on the columns of each block.
    #[target_feature(enable = "avx512f")]
    fn quarter(groups: &mut [Rows; 4]) {
        macro_rules! step {
            ($to:literal, $from:literal, $turned:literal, $by:literal) => {
                for r in groups.iter_mut() {
                    r[$to] = _mm512_add_epi32(r[$to], r[$from]);
                    r[$turned] = _mm512_rol_epi32::<$by>(_mm512_xor_si512(r[$turned], r[$to]));
                }
            };
        }
        step!(0, 1, 3, 16);
        step!(2, 3, 1, 12);
        step!(0, 1, 3, 8);
        step!(2, 3, 1, 7);
    }

    #[target_feature(enable = "avx512f")]
    fn blocks(wide: &Wide, numbers: &[u64; LANES], out: &mut [[u32; BLOCK]; LANES]) {
        let [k0, k1, k2, k3, k4, k5, k6, k7] = wide.key;
        let fixed = [
            same(CONSTANTS),
            same([k0, k1, k2, k3]),
            same([k4, k5, k6, k7]),
        ];
        let counter = [
            counters(wide.stream, &numbers[0..4]),
            counters(wide.stream, &numbers[4..8]),
            counters(wide.stream, &numbers[8..12]),
            counters(wide.stream, &numbers[12..16]),
        ];
        let mut groups = counter.map(|c| [fixed[0], fixed[1], fixed[2], c]);
        for _ in 0..4 {
            quarter(&mut groups);
            for r in &mut groups {
                r[1] = _mm512_shuffle_epi32::<0b00_11_10_01>(r[1]);
                r[2] = _mm512_shuffle_epi32::<0b01_00_11_10>(r[2]);
                r[3] = _mm512_shuffle_epi32::<0b10_01_00_11>(r[3]);
            }
            quarter(&mut groups);
            for r in &mut groups {
                r[1] = _mm512_shuffle_epi32::<0b10_01_00_11>(r[1]);
                r[2] = _mm512_shuffle_epi32::<0b01_00_11_10>(r[2]);
                r[3] = _mm512_shuffle_epi32::<0b00_11_10_01>(r[3]);
            }
        }
        for ((r, counter), four) in groups.iter().zip(counter).zip(out.chunks_exact_mut(4)) {
            let a = _mm512_add_epi32(r[0], fixed[0]);
            let b = _mm512_add_epi32(r[1], fixed[1]);
            let c = _mm512_add_epi32(r[2], fixed[2]);
            let d = _mm512_add_epi32(r[3], counter);
            // Transposes the four by four table of 128-bit rows.
            let ab_even = _mm512_shuffle_i32x4::<0b10_00_10_00>(a, b); // a0 a2 b0 b2
            let ab_odd = _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b); // a1 a3 b1 b3
            let cd_even = _mm512_shuffle_i32x4::<0b10_00_10_00>(c, d);
            let cd_odd = _mm512_shuffle_i32x4::<0b11_01_11_01>(c, d);
            let done = [
                _mm512_shuffle_i32x4::<0b10_00_10_00>(ab_even, cd_even),
                _mm512_shuffle_i32x4::<0b10_00_10_00>(ab_odd, cd_odd),
                _mm512_shuffle_i32x4::<0b11_01_11_01>(ab_even, cd_even),
                _mm512_shuffle_i32x4::<0b11_01_11_01>(ab_odd, cd_odd),
            ];
            for (block, vector) in four.iter_mut().zip(done) {
                // SAFETY: a block is sixteen words, the size of a vector, and the store needs no
                // alignment.
                unsafe { _mm512_storeu_si512(block.as_mut_ptr().cast(), vector) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, StreamKey};

    fn rng() -> ChaCha8Rng {
        StreamKey::from_text("keystream tests").stream(Purpose::Train)
    }

    #[test]
    fn blocks_are_those_of_the_reference_generator() {
        let numbers: [u64; LANES] = std::array::from_fn(|i| match i {
            0..4 => i as u64,
            4..8 => (1 << 32) - 6 + i as u64,
            _ => (i as u64).pow(9) * 1_234_567,
        });
        for mut stream in [Keystream::new(rng()), Keystream::narrow(rng())] {
            let mut found = [[0; BLOCK]; LANES];
            stream.blocks(&numbers, &mut found);
            for (number, block) in numbers.iter().zip(found) {
                let mut reference = rng();
                reference.set_word_pos(u128::from(*number) * BLOCK as u128);
                assert_eq!(block, std::array::from_fn(|_| reference.next_u32()));
            }
        }
    }

    #[test]
    fn pieces_of_any_width_are_read_at_any_place() {
        for width in [1, 2, 9, 16, 17, 129] {
            let places = [5u32, 6, 7, 0, 0, 1_000_003, 2, 90, 31];
            let mut reference = Vec::new();
            for place in places {
                let mut rng = rng();
                rng.set_word_pos(u128::from(place) * width as u128);
                reference.extend((0..width).map(|_| rng.next_u32()));
            }
            for mut stream in [Keystream::new(rng()), Keystream::narrow(rng())] {
                let mut found = vec![0; places.len() * width];
                stream.read(&places, width, &mut found);
                assert_eq!(found, reference, "width {width}");
            }
        }
    }
}
