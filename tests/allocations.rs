//! Trials allocate their buffers once: the number of allocations does not grow with the samples.
//!
//! Whether attention is right on every training sample decides on one more pass, hence the
//! allowance of a few between two sizes, each of thousands of samples.

use std::alloc::System;

use recall_capacity::descent::early::{self, Training, Trial};
use recall_capacity::descent::exact::{self, Problem};
use recall_capacity::descent::hidden::Hidden;
use recall_capacity::descent::samples::Data;
use recall_capacity::descent::{Rates, mlp};
use recall_capacity::embedding::Embeddings;
use recall_capacity::rng::{Purpose, StreamKey};
use recall_capacity::task::{Batch, Permutation, Stream};
use recall_theory::{Activation, Mlp, MlpInput, MlpRows};
use recall_theory::{Attention, Labels, Setting};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const VOCAB: usize = 96;
const DIM: usize = 24;
const LEN: usize = 12;

fn key() -> StreamKey {
    StreamKey::from_text("allocations")
}

/// Allocations, and regrowths of one, that `work` makes once its thread is warm.
fn allocations(work: impl Fn()) -> usize {
    work();
    let region = Region::new(ALLOCATOR);
    work();
    let change = region.change();
    change.allocations + change.reallocations
}

fn assert_near(few: usize, many: usize) {
    assert!(few.abs_diff(many) <= 8, "{few} and {many} allocations");
}

/// The one test of this file, since the counter is that of the process.
#[test]
fn the_number_of_allocations_does_not_depend_on_the_samples() {
    let setting = Setting::new(VOCAB, DIM, LEN, 1000);
    let permutation = Permutation::random(VOCAB, &mut key().stream(Purpose::Permutation));
    let embeddings = Embeddings::<f32>::draw(&setting, &key());
    let query = embeddings.draw_query(setting.input, &key());
    let batch = |purpose, samples| {
        let rng = &mut key().stream(purpose);
        Batch::draw(rng, &permutation, LEN, samples, Labels::Iid)
    };
    let test = batch(Purpose::Test, 50);

    let early = |attention: Attention, samples: usize| {
        let mut setting = Setting::new(VOCAB, DIM, LEN, samples as u64);
        setting.attention = attention;
        let rng = key().stream(Purpose::Train);
        let stream = Stream::new(rng, &permutation, LEN, samples, Labels::Iid);
        allocations(|| {
            let _ = early::run(&Trial {
                setting: &setting,
                embeddings: &embeddings,
                permutation: &permutation,
                training: Training::Stream(&stream),
                test: &test,
                decompose: false,
            });
        })
    };
    // Enough samples that every label has some.
    for attention in [Attention::Argmax, Attention::Strength(2.0)] {
        assert_near(early(attention, 3000), early(attention, 12_000));
    }
    // Too many to be stored, so drawn again at each pass.
    assert_near(
        early(Attention::Argmax, 700_000),
        early(Attention::Argmax, 1_400_000),
    );

    // Attention that is saturated, and attention that is not.
    for gamma_w in [1e2, 1e12] {
        let rates = Rates {
            eta: 50.0,
            gamma_w,
            gamma_v: 10.0,
        };
        let exact = |samples| {
            let train = batch(Purpose::Train, samples);
            let problem = |batch| Problem::new(&embeddings, &query, batch, false).expect("fits");
            let (train, test) = (problem(&train), problem(&test));
            allocations(|| {
                let _ = exact::learn(&train, &test, rates);
            })
        };
        assert_near(exact(3000), exact(12_000));
    }

    let layer = Mlp {
        activation: Activation::Relu,
        width: 40,
        input: MlpInput::Rms,
        rows: MlpRows::Gaussian,
    };
    let hidden = Hidden::<f32>::draw(&layer, DIM, &key());
    let behind = |samples: usize| {
        let rng = key().stream(Purpose::Train);
        let stream = Stream::new(rng, &permutation, LEN, samples, Labels::Iid);
        let setting = Setting::new(VOCAB, DIM, LEN, samples as u64);
        allocations(|| {
            let trial = mlp::Trial {
                setting: &setting,
                embeddings: &embeddings,
                hidden: &hidden,
                permutation: &permutation,
                train: Data::Stream(&stream),
                test: &test,
            };
            assert!(mlp::run(&trial).is_some());
        })
    };
    assert_near(behind(3000), behind(12_000));
    // Drawn again at each pass.
    assert_near(behind(700_000), behind(1_400_000));
    assert!(early(Attention::Argmax, 3000) < 200);
}
