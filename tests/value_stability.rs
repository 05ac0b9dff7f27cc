//! Pinned numbers: the same configuration must give the same draws in every version.
//!
//! Records are kept and compared across versions by key, and a key says nothing of the code that
//! drew. So if a test here fails, either undo the change of the draws, or bump
//! `rng::RNG_SCHEME` (it is part of every key) and pin the new numbers.

#![allow(clippy::unwrap_used)] // helpers outside #[test] functions unwrap too

use rand_chacha::rand_core::Rng;
use recall_capacity::embedding::{Embeddings, Table};
use recall_capacity::job::{Configuration, Engine, Job};
use recall_capacity::rng::{Purpose, RNG_SCHEME, StreamKey};
use recall_capacity::task::{Batch, Permutation};
use recall_theory::{Embedding, Labels, Samples, Setting};

const ADVICE: &str =
    "the draws have changed: undo that, or bump rng::RNG_SCHEME and pin the new numbers";

fn key() -> StreamKey {
    StreamKey::from_text("value stability")
}

#[test]
fn streams() {
    assert_eq!(RNG_SCHEME, 1, "a new scheme: pin its numbers in this file");
    let first = |purpose| key().stream(purpose).next_u64();
    let found = [
        Purpose::InputEmbedding,
        Purpose::OutputEmbedding,
        Purpose::Trigger,
        Purpose::Query,
        Purpose::Permutation,
        Purpose::Train,
        Purpose::Test,
    ]
    .map(first);
    assert_eq!(
        found,
        [
            606787808998378148,
            8761286816152092858,
            10140563333327190204,
            9355029557895947269,
            14191570689219671416,
            14120757694928284432,
            2754389264185969257
        ],
        "{ADVICE}"
    );
}

#[test]
fn embeddings() {
    for (law, want) in [
        (
            Embedding::Gaussian,
            [
                -0.6977186359493633,
                -0.1850137862313133,
                -0.15432811264445367,
                -0.032979143318994805,
                -0.26176422550017503,
                0.06462514773811648,
                -0.5383007298020043,
                0.02594267585393663,
            ],
        ),
        (
            Embedding::Sphere,
            [
                -0.7797244383071187,
                -0.2067592337590273,
                -0.10821828296858763,
                -0.03883923699783622,
                -0.9541125227272095,
                0.1189345665148572,
                -0.99067570743628,
                0.039246358931500434,
            ],
        ),
    ] {
        let setting = Setting::new(5, 3, 4, 10).with_embeddings(law, law);
        let e = Embeddings::<f64>::draw(&setting, &key());
        let query = e.draw_query(law, &key());
        let (Table::Dense(input), Table::Dense(output)) = (&e.input, &e.output) else {
            panic!("dense by construction")
        };
        let trigger = e.trigger.as_ref().unwrap();
        let found = [
            input.row(0)[0],
            input.row(0)[1],
            input.row(4)[2],
            output.row(0)[0],
            output.row(4)[2],
            trigger[0],
            trigger[2],
            query[0],
        ];
        assert_eq!(found, want, "{law:?}: {ADVICE}");
        // Single precision rounds the same vectors.
        let Table::Dense(rounded) = Embeddings::<f32>::draw(&setting, &key()).input else {
            panic!("dense by construction")
        };
        assert_eq!(rounded.row(4)[2], input.row(4)[2] as f32);
    }
}

#[test]
fn task() {
    let pi = Permutation::random(8, &mut key().stream(Purpose::Permutation));
    assert_eq!(pi.labels(), [1, 5, 3, 7, 0, 2, 4, 6], "{ADVICE}");
    for (labels, tokens, position) in [
        (
            Labels::Iid,
            [7, 6, 4, 5, 6, 2, 5, 0, 4, 2, 3, 4],
            [1, 0, 0, 0],
        ),
        (
            Labels::Balanced,
            [7, 4, 4, 0, 6, 2, 5, 0, 4, 2, 3, 4],
            [1, 0, 0, 0],
        ),
    ] {
        let batch = Batch::draw(&mut key().stream(Purpose::Train), &pi, 3, 4, labels);
        assert_eq!(batch.tokens, tokens, "{labels:?}: {ADVICE}");
        assert_eq!(batch.position, position, "{labels:?}: {ADVICE}");
    }
}

fn job(setting: &Setting) -> Job {
    Job {
        config: Configuration {
            test_sequences: 256,
            ..Configuration::of(setting)
        },
        seed: 11,
        paired: Vec::new(),
    }
}

/// Hits on the training batch, fresh sequences, end to end, recalled tokens, one step; then the
/// signal and the two variances.
type Pinned = ([u64; 5], [f64; 3]);

fn check(name: &str, job: &Job, (hits, values): Pinned) {
    let o = job.run().unwrap().outcome;
    let found = [
        o.train_attention.map_or(0, |c| c.hits),
        o.attention.hits,
        o.accuracy.hits,
        o.recall.hits,
        o.one_step.hits,
    ];
    let measured = [o.signal, o.spread_squared, o.interference_squared];
    let text = format!("{name}: {found:?} {measured:?}: {ADVICE}");
    assert_eq!(found, hits, "{text}");
    for (a, b) in measured.into_iter().zip(values) {
        assert!((a - b).abs() <= 1e-10 * b.abs(), "{text}");
    }
}

#[test]
fn outcomes() {
    let plain = Setting::new(64, 16, 8, 300);
    check(
        "plain",
        &job(&plain),
        (
            [275, 237, 39, 10, 4],
            [1.423873612134076, 0.2403636306199119, 0.09367889194976696],
        ),
    );
    let carried = Setting {
        trigger_in_values: true,
        labels: Labels::Balanced,
        ..plain.with_embeddings(Embedding::Sphere, Embedding::Orthonormal)
    };
    check(
        "carried",
        &job(&carried),
        (
            [298, 254, 193, 47, 28],
            [
                0.6990555537776678,
                0.027495345368631303,
                0.0008105083152183149,
            ],
        ),
    );
    let population = Setting {
        samples: Samples::Infinite,
        ..plain
    };
    check(
        "population",
        &job(&population),
        (
            [0, 223, 45, 13, 13],
            [
                0.7576566303935873,
                0.025163642847525654,
                0.00021840465274473758,
            ],
        ),
    );
    let mut exact = job(&plain);
    exact.config.engine = Engine::Exact {
        eta: 400.0,
        gamma_w: 1e3,
        gamma_v: 50.0,
    };
    check(
        "exact",
        &exact,
        (
            [294, 249, 49, 10, 4],
            [
                1.3376735793800496,
                0.15762449147042523,
                0.032317112463755016,
            ],
        ),
    );
}

#[test]
fn keys() {
    let job = job(&Setting::new(64, 16, 8, 300));
    assert_eq!(
        job.key(),
        "f63cf211f9b532cf3e91c11c8426659354043a3715bca767562b988fa4f078fa",
        "the canonical text has changed: older records would be orphaned"
    );
}
