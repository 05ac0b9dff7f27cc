//! One dispatch for all loops that the compiler is to compile for wider vectors.
//!
//! A [`Kernel`] is safe code in plain loops. [`widest`] runs it compiled for the widest vectors of
//! the processor. Rust neither contracts nor reorders floating-point operations, and the loops sum
//! in lanes of a fixed number, so the results are the same to the last bit on every path;
//! `docs/speed.md` keeps what it gains.

/// A loop to be compiled once per instruction set. `run` must be `#[inline(always)]`, and so must
/// what it calls.
pub trait Kernel {
    /// What the loop returns.
    type Output;
    /// The loop.
    fn run(self) -> Self::Output;
}

/// Runs a kernel on the widest vectors that the processor has.
#[inline]
#[allow(unsafe_code)]
pub fn widest<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
        fn avx512<K: Kernel>(kernel: K) -> K::Output {
            kernel.run()
        }
        #[target_feature(enable = "avx2")]
        fn avx2<K: Kernel>(kernel: K) -> K::Output {
            kernel.run()
        }
        if has_avx512() {
            // SAFETY: the processor has all that the function requires.
            return unsafe { avx512(kernel) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, all that the function requires.
            return unsafe { avx2(kernel) };
        }
    }
    kernel.run()
}

/// Whether the processor has the parts of AVX-512 that the wide paths use.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
}

/// Lanes of a sum: two vectors of 512 bits in single precision.
const LANES: usize = 32;

/// Reduction in interleaved lanes, which the compiler can vectorise; the order is fixed.
#[inline(always)]
pub(crate) fn lanes<R: Copy, T: Copy>(
    x: &[R],
    start: T,
    step: impl Fn(T, R) -> T,
    join: impl Fn(T, T) -> T,
) -> T {
    let mut acc = [start; LANES];
    let blocks = x.chunks_exact(LANES);
    let rest = blocks.remainder();
    for block in blocks {
        for (a, x) in acc.iter_mut().zip(block) {
            *a = step(*a, *x);
        }
    }
    // What is left does not touch the lanes, or they would leave their registers.
    let mut tail = start;
    for x in rest {
        tail = step(tail, *x);
    }
    join(joined(acc, &join), tail)
}

/// Halves until one is left.
#[inline(always)]
pub(crate) fn joined<T: Copy, const N: usize>(acc: [T; N], join: impl Fn(T, T) -> T) -> T {
    // Stored once. Otherwise the compiler shapes the loop before by the last halves, two lanes to a
    // vector, and runs it at a quarter of the speed.
    let mut acc = std::hint::black_box(acc);
    let mut width = N;
    while width > 1 {
        width /= 2;
        for i in 0..width {
            acc[i] = join(acc[i], acc[i + width]);
        }
    }
    acc[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sum<'a>(&'a [f32]);

    impl Kernel for Sum<'_> {
        type Output = f32;
        #[inline(always)]
        fn run(self) -> f32 {
            lanes(self.0, 0.0, |s, x| s + x * x, |a, b| a + b)
        }
    }

    #[test]
    fn every_path_gives_the_same_bits() {
        for n in [0, 1, 31, 32, 33, 1000] {
            let x: Vec<f32> = (0..n).map(|i| (i as f32 * 0.7).sin()).collect();
            assert_eq!(widest(Sum(&x)).to_bits(), Sum(&x).run().to_bits());
            let exact: f64 = x.iter().map(|x| f64::from(*x).powi(2)).sum();
            assert!((f64::from(widest(Sum(&x))) - exact).abs() < 1e-5 * (1.0 + exact));
        }
    }
}
