use rand_distr::{Distribution, StandardNormal};
use recall_theory::{Embedding, Labels, Setting};

use super::gradient::add_noise;
use super::whitened::Channel;
use super::*;
use crate::embedding::Embeddings;
use crate::job::{Configuration, Job};
use crate::linalg::gemm;
use crate::rng::{Purpose, StreamKey};
use crate::task::Batch;

fn all() -> DecoderSet {
    Decoder::ALL.into_iter().collect()
}

struct World {
    embeddings: Embeddings<f64>,
    permutation: Permutation,
    batch: Batch,
    key: StreamKey,
}

fn world(setting: Setting, name: &str) -> World {
    let key = StreamKey::from_text(name);
    let permutation = Permutation::random(setting.vocab, &mut key.stream(Purpose::Permutation));
    let batch = Batch::draw(
        &mut key.stream(Purpose::Train),
        &permutation,
        setting.len,
        setting.samples.as_f64() as usize,
        setting.labels,
    );
    World {
        embeddings: Embeddings::draw(&setting, &key),
        permutation,
        batch,
        key,
    }
}

fn close(a: f64, b: f64, what: &str) {
    assert!((a - b).abs() < 1e-9, "{what}: {a} {b}");
}

/// `x^T diag(w) y`.
fn product(x: &Matrix<f64>, w: &[f64], y: &Matrix<f64>) -> Matrix<f64> {
    let mut scaled = y.clone();
    for (v, w) in w.iter().enumerate() {
        scaled.row_mut(v).iter_mut().for_each(|e| *e *= w);
    }
    let mut out = Matrix::zeros(x.cols(), y.cols());
    gemm(1.0, x.view().t(), scaled.view(), 0.0, out.data_mut());
    out
}

fn is_identity(m: &Matrix<f64>, what: &str) {
    for i in 0..m.rows() {
        for j in 0..m.cols() {
            close(m.row(i)[j], f64::from(u8::from(i == j)), what);
        }
    }
}

#[test]
fn whitening_makes_the_noise_white_and_keeps_the_signal() {
    let laws = [
        Embedding::Gaussian,
        Embedding::Sphere,
        Embedding::Orthonormal,
    ];
    // Narrow, full rank, wider than the vocabulary; few samples leave labels unseen.
    for (law, dim, samples) in laws
        .into_iter()
        .flat_map(|law| [(law, 5, 200), (law, 11, 200), (law, 20, 200), (law, 9, 6)])
    {
        let setting = Setting::new(12, dim, 4, samples).with_embeddings(law, law);
        let w = world(setting, &format!("whitening {law:?} {dim} {samples}"));
        let g = FirstGradient::new(&w.embeddings, &w.batch);
        let channel = Channel::new(&g);
        let what = format!("{law:?} {dim} {samples}");
        let width = w.embeddings.input.dim();
        assert_eq!(channel.input.cols(), width.min(11), "{what}");
        // Noise covariance per side: A^T A and sum_j n_j b_j b_j^T, with n_j b_j the stored rows.
        let ones = vec![1.0; 12];
        is_identity(&product(&channel.input, &ones, &channel.input), &what);
        let inverse: Vec<f64> = g
            .counts
            .iter()
            .map(|n| if *n > 0.0 { 1.0 / n } else { 0.0 })
            .collect();
        is_identity(&product(&channel.output, &inverse, &channel.output), &what);
        for k in 0..channel.input.cols() {
            let sum: f64 = (0..12).map(|v| channel.input.row(v)[k]).sum();
            close(sum, 0.0, &what);
        }
        // Y = A^T S B holds with the counts themselves: nothing but the known mean was lost.
        let mut table = Matrix::zeros(12, 12);
        for (n, &label) in w.batch.label.iter().enumerate() {
            for &token in w.batch.sequence(n) {
                let j = label as usize;
                table.row_mut(token as usize)[j] += inverse[j];
            }
        }
        let projected = channel.project(&table);
        for (a, b) in projected.data().iter().zip(channel.observed.data()) {
            close(*a, *b, &what);
        }
        // Full input rank: the projector A A^T is the centring itself.
        if channel.input.cols() == 11 {
            for norm in &channel.input_norm {
                close(*norm, 11.0 / 12.0, &what);
            }
        }
    }
}

#[test]
fn without_noise_the_permutation_is_recovered() {
    for law in [
        Embedding::Gaussian,
        Embedding::Sphere,
        Embedding::Orthonormal,
    ] {
        let setting = Setting::new(64, 60, 8, 64).with_embeddings(law, law);
        let w = world(setting, "exact");
        let mut table = Matrix::zeros(64, 64);
        for v in 0..64 {
            let j = w.permutation.label(v as u32) as usize;
            table.row_mut(v)[j] = 3.0;
        }
        let g = FirstGradient::of_counts(&w.embeddings, &table, vec![3.0; 64], 8);
        let results = decode(&g, all(), &w.permutation);
        assert_eq!(results.len(), 6);
        for r in results {
            // Unwhitened, other facts interfere at this size; everything else is exact.
            let filter = matches!(
                r.decoder,
                Decoder::MatchedFilter | Decoder::MatchedFilterAssigned
            );
            let least = if filter && law != Embedding::Orthonormal {
                50
            } else {
                64
            };
            assert!(r.correct.hits >= least, "{law:?} {r:?}");
        }
    }
}

#[test]
fn assignment_is_the_best_permutation() {
    let mut rng = StreamKey::from_text("assignment").stream(Purpose::Test);
    for n in 1..=6usize {
        for _ in 0..20 {
            let data: Vec<f64> = (0..n * n)
                .map(|_| StandardNormal.sample(&mut rng))
                .collect();
            let scores = Matrix::from_vec(n, n, data);
            let sum = |p: &[usize]| p.iter().enumerate().map(|(v, j)| scores.row(v)[*j]).sum();
            let best = permutations(n)
                .iter()
                .map(|p| sum(p))
                .fold(f64::NEG_INFINITY, f64::max);
            let found: f64 = sum(&assignment::largest(&scores));
            assert!((found - best).abs() < 1e-9, "{n} {found} {best}");
        }
    }
    let flat = Matrix::from_vec(3, 3, vec![2.0; 9]);
    let mut places = assignment::largest(&flat);
    places.sort_unstable();
    assert_eq!(places, [0, 1, 2]);
}

fn permutations(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for shorter in permutations(n - 1) {
        for place in 0..n {
            let mut longer = shorter.clone();
            longer.insert(place, n - 1);
            all.push(longer);
        }
    }
    all
}

/// Mean accuracies over Gaussian draws of `Y = A^T Pi B + noise` at V = 6 of AMP, AMP with
/// assignment, whitened likelihood and the marginals of the exact posterior (all 720 permutations).
fn against_brute_force(dim: usize, per_class: f64, name: &str) -> ([f64; 4], f64) {
    const VOCAB: usize = 6;
    const LEN: usize = 4;
    let every = permutations(VOCAB);
    let draws = 400;
    let (mut mean, mut square) = ([0.0; 4], 0.0);
    for draw in 0..draws {
        let w = world(Setting::new(VOCAB, dim, LEN, 6), &format!("{name} {draw}"));
        let mut table = Matrix::zeros(VOCAB, VOCAB);
        for v in 0..VOCAB {
            table.row_mut(v)[w.permutation.label(v as u32) as usize] = per_class;
        }
        let counts = vec![per_class; VOCAB];
        add_noise(
            &mut table,
            &counts,
            1.0,
            LEN,
            &mut w.key.stream(Purpose::Oracle),
        );
        let g = FirstGradient::of_counts(&w.embeddings, &table, counts, LEN);
        let channel = Channel::new(&g);
        let noise = (LEN as f64 - 1.0) / VOCAB as f64;
        let mut correlation = Matrix::zeros(VOCAB, VOCAB);
        channel.correlate(&channel.observed, &mut correlation);
        // |A^T P B|^2 depends on P through all pairs of pairs.
        let log_weight = |p: &[usize]| {
            let mut chosen = Matrix::zeros(VOCAB, VOCAB);
            for (v, j) in p.iter().enumerate() {
                chosen.row_mut(v)[*j] = 1.0;
            }
            let energy: f64 = channel.project(&chosen).data().iter().map(|x| x * x).sum();
            let fit: f64 = p
                .iter()
                .enumerate()
                .map(|(v, j)| correlation.row(v)[*j])
                .sum();
            (fit - 0.5 * energy) / noise
        };
        let weights: Vec<f64> = every.iter().map(|p| log_weight(p)).collect();
        let top = weights.iter().copied().fold(f64::MIN, f64::max);
        let mut marginal = Matrix::zeros(VOCAB, VOCAB);
        for (p, w) in every.iter().zip(&weights) {
            for (v, j) in p.iter().enumerate() {
                marginal.row_mut(v)[*j] += (w - top).exp();
            }
        }
        let message = amp::scores(&channel);
        let share = |guess: &[usize]| count(guess, &w.permutation).rate();
        let exact = share(&per_token(&marginal));
        let assigned = share(&assignment::largest(&message));
        for (m, x) in mean.iter_mut().zip([
            share(&per_token(&message)),
            assigned,
            share(&per_token(&channel.log_likelihood())),
            exact,
        ]) {
            *m += x / f64::from(draws);
        }
        square += (assigned - exact).powi(2) / f64::from(draws);
    }
    (mean, (square / f64::from(draws)).sqrt())
}

#[test]
fn message_passing_comes_near_the_exact_posterior() {
    // Full rank (4 of 5), and a tight one where other facts interfere.
    for (dim, per_class) in [(5, 1.0), (5, 2.0), (3, 4.0)] {
        let ([amp, assigned, white, exact], se) =
            against_brute_force(dim, per_class, &format!("brute {dim} {per_class}"));
        let text = format!(
            "d = {dim}: AMP {amp}, assigned {assigned}, white {white}, exact {exact}, se {se}"
        );
        // Nothing beats the posterior's marginals in expectation.
        assert!(assigned < exact + 3.0 * se, "{text}");
        assert!(assigned > exact - 0.08, "{text}");
        assert!(amp > exact - 0.08 && amp > white - 0.02, "{text}");
        assert!(exact > 0.3 && exact < 0.97, "{text}");
    }
}

#[test]
fn message_passing_needs_its_corrections_where_facts_interfere() {
    // Little noise and many facts per dimension: what is left is the interference of other facts,
    // which the Onsager term and the energies of the templates account for. Over these draws the
    // decoder has .89 of the facts; without the Onsager term .70, without the energies .45, and
    // the likelihood that takes interference for white noise .35.
    let (vocab, dim, per_class, draws) = (128, 24, 40.0, 20);
    let (mut message, mut white) = (0.0, 0.0);
    for draw in 0..draws {
        let w = world(
            Setting::new(vocab, dim, 4, 6),
            &format!("interference {draw}"),
        );
        let mut table = Matrix::zeros(vocab, vocab);
        for v in 0..vocab {
            table.row_mut(v)[w.permutation.label(v as u32) as usize] = per_class;
        }
        let counts = vec![per_class; vocab];
        let mut rng = w.key.stream(Purpose::Oracle);
        add_noise(&mut table, &counts, 0.5, 4, &mut rng);
        let g = FirstGradient::of_counts(&w.embeddings, &table, counts, 4);
        let channel = Channel::new(&g);
        let share = |scores: &Matrix<f64>| count(&per_token(scores), &w.permutation).rate();
        message += share(&amp::scores(&channel)) / f64::from(draws);
        white += share(&channel.log_likelihood()) / f64::from(draws);
    }
    assert!(message > 0.8 && white < 0.5, "{message} {white}");
}

#[test]
fn the_noisy_oracle_has_the_stated_covariance() {
    let (kappa, draws) = (0.7, 60_000);
    let setting = Setting::new(5, 2, 4, 40);
    let w = world(setting, "oracle");
    let exact = FirstGradient::new(&w.embeddings, &w.batch);
    let mut rng = w.key.stream(Purpose::Oracle);
    let size = 4;
    let (mut mean, mut second) = (vec![0.0; size], vec![0.0; size * size]);
    for _ in 0..draws {
        let noisy = FirstGradient::noisy(&w.embeddings, &w.batch, kappa, &mut rng);
        let noise: Vec<f64> = noisy
            .gradient
            .data()
            .iter()
            .zip(exact.gradient.data())
            .map(|(a, b)| a - b)
            .collect();
        for i in 0..size {
            mean[i] += noise[i] / f64::from(draws);
            for j in 0..size {
                second[i * size + j] += noise[i] * noise[j] / f64::from(draws);
            }
        }
    }
    // kappa (L-1)/V K x B by its definition.
    let (_, table) = exact.centred();
    let k = product(&table, &[1.0; 5], &table);
    let b = product(&exact.output, &exact.counts, &exact.output);
    let scale = kappa * (setting.len as f64 - 1.0) / setting.vocab as f64;
    for i in 0..size {
        for j in 0..size {
            let of = |i: usize, j: usize| k.row(i / 2)[j / 2] * b.row(i % 2)[j % 2] * scale;
            let stated = of(i, j);
            let se = ((of(i, i) * of(j, j) + stated * stated) / f64::from(draws)).sqrt();
            let drawn = second[i * size + j];
            assert!(
                (drawn - stated).abs() < 4.5 * se,
                "{i} {j} {drawn} {stated} {se}"
            );
        }
        let sd = (k.row(i / 2)[i / 2] * b.row(i % 2)[i % 2] * scale).sqrt();
        assert!(mean[i].abs() < 4.5 * sd / f64::from(draws).sqrt(), "{i}");
    }
}

#[test]
fn sampling_noise_has_the_covariance_that_whitening_assumes() {
    // V = 4, fixed label counts, many batches: Cov(vec Y) = (L-1)/V I in white coordinates.
    let (vocab, len) = (4, 5);
    let mut setting = Setting::new(vocab, 2, len, 12);
    setting.labels = Labels::Balanced;
    let w = world(setting, "sampling");
    let draws = 20_000;
    let mut rng = w.key.stream(Purpose::Train);
    let (mut mean, mut second) = ([0.0; 4], [0.0; 4]);
    for _ in 0..draws {
        let batch = Batch::draw(&mut rng, &w.permutation, len, 12, Labels::Balanced);
        let y = Channel::new(&FirstGradient::new(&w.embeddings, &batch)).observed;
        for (i, x) in y.data().iter().enumerate() {
            mean[i] += x / f64::from(draws);
            second[i] += x * x / f64::from(draws);
        }
    }
    for i in 0..4 {
        let variance = second[i] - mean[i] * mean[i];
        let stated = (len as f64 - 1.0) / vocab as f64;
        // Four standard errors of a variance, kurtosis of a binomial sum near three.
        assert!(
            (variance / stated - 1.0).abs() < 4.0 * (2.2 / f64::from(draws)).sqrt(),
            "{variance} {stated}"
        );
    }
}

fn job(samples: u64) -> Job {
    Job {
        config: Configuration::of(&Setting::new(48, 20, 6, samples)),
        seed: 4,
        paired: vec![],
    }
}

#[test]
fn decoders_are_measured_beside_the_same_draws() {
    let plain = job(700);
    let mut more = plain.clone();
    more.config.decoders = all();
    let mut noisy = more.clone();
    noisy.config.oracle_noise = 0.5;
    assert_ne!(plain.key(), more.key());
    assert_ne!(noisy.key(), more.key());
    assert_eq!(plain.stream_key(), noisy.stream_key());
    let (a, b) = (plain.run().unwrap().outcome, more.run().unwrap().outcome);
    assert_eq!(b.decoders.len(), 6);
    // The matched filter is the one that the engine reports.
    assert_eq!(b.decoders[0].correct, b.one_step);
    assert_eq!(
        a,
        crate::descent::early::Outcome {
            decoders: vec![],
            ..b.clone()
        }
    );
    // Same bytes again; the oracle's noise reaches the decoders and nothing else.
    assert_eq!(b, more.run().unwrap().outcome);
    let c = noisy.run().unwrap().outcome;
    assert_eq!(c.one_step, b.one_step);
    assert_ne!(c.decoders, b.decoders);
    assert_eq!(c, noisy.run().unwrap().outcome);
    // One decoder alone counts what it counts among all.
    let mut one = more.clone();
    one.config.decoders = [Decoder::AmpAssigned].into_iter().collect();
    assert_eq!(one.run().unwrap().outcome.decoders, b.decoders[5..]);
    let text = serde_json::to_string(&b).unwrap();
    assert_eq!(
        serde_json::from_str::<crate::descent::early::Outcome>(&text).unwrap(),
        b
    );
    assert!(!serde_json::to_string(&a).unwrap().contains("decoders"));
}

#[test]
fn the_query_read_as_it_is_attends_as_the_engine_does() {
    // The mean score of a sequence weighs most in short ones.
    for (len, samples) in [(2, 10), (2, 20), (3, 15), (6, 40), (6, 500)] {
        let mut job = job(samples);
        job.config.len = len;
        job.config.read_query = true;
        let outcome = job.run().unwrap().outcome;
        let query = outcome.query.unwrap();
        close(query.signal / outcome.signal, 1.0, "signal");
        let (read, engine) = (query.readings[0].attention, outcome.attention);
        assert_eq!(read, engine, "L = {len}, N = {samples}");
        let rate = engine.rate();
        assert!(
            rate > 1.2 / len as f64 && rate < 0.999,
            "{len} {samples}: {rate}"
        );
    }
}

#[test]
fn what_cannot_be_decoded_is_refused() {
    let refused = |change: fn(&mut Configuration), text: &str| {
        let mut job = job(700);
        job.config.decoders = all();
        change(&mut job.config);
        let error = job.run().unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    };
    refused(
        |c| c.samples = recall_theory::Samples::Infinite,
        "finite batch",
    );
    refused(|c| c.oracle_noise = -1.0, "oracle_noise = -1");
    refused(|c| c.vocab = 4096, "vocab = 4096");
    let mut bare = job(700);
    bare.config.oracle_noise = 1.0;
    assert!(
        bare.run()
            .unwrap_err()
            .to_string()
            .contains("needs decoders")
    );
}
