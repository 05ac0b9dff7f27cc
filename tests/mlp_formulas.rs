//! Simulation of the attention-MLP model against its formulas, at fixed seeds.
#![allow(clippy::unwrap_used)]

#[path = "common/trials.rs"]
mod trials;

use recall_theory::accuracy::{attention_accuracy, end_to_end_accuracy};
use recall_theory::mlp::attention::{MLP_NOISE_NAMES, budget};
use recall_theory::mlp::thresholds::{RECALL_NOISE_NAMES, recall_noise};
use recall_theory::recall::recall_accuracy;
use recall_theory::{Embedding, Labels, Mlp, MlpInput, MlpRows, Setting};
use trials::{mean, simulate};

fn layer(activation: &str, width: usize, input: MlpInput) -> Mlp {
    Mlp {
        activation: activation.parse().unwrap(),
        width,
        input,
        rows: MlpRows::Gaussian,
    }
}

#[test]
fn recall_agrees_over_activations() {
    let mut errors = Vec::new();
    for (activation, input, v, d, n, m, allowed) in [
        ("relu", MlpInput::Raw, 512, 64, 4096, 256, 0.05),
        ("centred-relu", MlpInput::Rms, 256, 64, 2048, 64, 0.05),
        ("gelu", MlpInput::Rms, 256, 64, 2048, 256, 0.05),
        ("tanh", MlpInput::Raw, 256, 48, 2048, 128, 0.05),
        ("abs:0,1", MlpInput::Rms, 512, 64, 4096, 128, 0.08),
        ("abs:0.3,1", MlpInput::Rms, 512, 64, 4096, 256, 0.05),
        ("hermite-2", MlpInput::Rms, 256, 64, 2048, 64, 0.08),
        (
            "hermite:0,0.5,0.866",
            MlpInput::Rms,
            256,
            64,
            2048,
            64,
            0.05,
        ),
        ("hermite-2", MlpInput::Rms, 256, 64, 2048, 24, 0.08),
    ] {
        let s = Setting::new(v, d, 8, n).with_mlp(layer(activation, m, input));
        let (measured, error) = mean(simulate(&s, 4, false).iter().map(|o| o.recall.rate()));
        let predicted = recall_accuracy(&s);
        assert!(
            (predicted - measured).abs() < allowed + 2.0 * error,
            "{activation}: predicted {predicted:.3}, measured {measured:.3} +- {error:.3}"
        );
        // Where a wrong constant would show.
        assert!((0.03..0.97).contains(&measured), "{activation} {measured}");
        errors.push(predicted - measured);
    }
    let rms = (errors.iter().map(|e| e * e).sum::<f64>() / errors.len() as f64).sqrt();
    assert!(rms < 0.03, "{rms} {errors:?}");
}

/// Each term of the recall noise is switched off by an intervention, in theory and simulation.
#[test]
fn interventions_remove_single_terms_of_recall() {
    let noise = |s: &Setting| recall_noise(s, s.model.mlp().unwrap());
    let index = |name: &str| RECALL_NOISE_NAMES.iter().position(|n| *n == name).unwrap();
    let plain = Setting::new(512, 64, 8, 1024).with_mlp(layer("relu", 512, MlpInput::Rms));
    let mut balanced = plain;
    balanced.labels = Labels::Balanced;
    let centred = plain.with_mlp(layer("centred-relu", 512, MlpInput::Rms));
    let even = plain.with_mlp(layer("abs:0,1", 512, MlpInput::Rms));
    let orthonormal = plain.with_embeddings(Embedding::Gaussian, Embedding::Orthonormal);
    let wide = plain.with_mlp(layer("relu", 1 << 14, MlpInput::Rms));
    let off = |s: &Setting, name: &str| {
        let (before, after) = (noise(&plain), noise(s));
        let i = index(name);
        assert!(
            after.variance[i] < 0.05 * before.variance[i] + 1e-9,
            "{name}"
        );
    };
    off(&balanced, "mean_bias");
    off(&centred, "mean_bias");
    off(&even, "linear_interference");
    off(&orthonormal, "output_gram");
    off(&wide, "mlp_noise");
    let mut last = Vec::new();
    for (s, trials) in [
        (&plain, 4),
        (&balanced, 4),
        (&centred, 4),
        (&even, 4),
        (&orthonormal, 4),
    ] {
        let (measured, error) = mean(simulate(s, trials, false).iter().map(|o| o.recall.rate()));
        let predicted = recall_accuracy(s);
        assert!(
            (predicted - measured).abs() < 0.05 + 2.0 * error,
            "predicted {predicted:.3}, measured {measured:.3} +- {error:.3}"
        );
        last.push(measured);
    }
    // Each intervention helps, and by much more than the errors.
    assert!(last[1..].iter().all(|r| *r > last[0] + 0.05), "{last:?}");
}

#[test]
fn attention_budget_agrees_over_activations() {
    let mut logs = Vec::new();
    for (activation, input, labels, rows, v, d, len, n, m) in [
        (
            "relu",
            MlpInput::Rms,
            Labels::Iid,
            MlpRows::Gaussian,
            512,
            32,
            32,
            2048,
            64,
        ),
        (
            "relu",
            MlpInput::Raw,
            Labels::Iid,
            MlpRows::Gaussian,
            256,
            48,
            24,
            2048,
            128,
        ),
        (
            "centred-relu",
            MlpInput::Rms,
            Labels::Balanced,
            MlpRows::Gaussian,
            256,
            48,
            16,
            1024,
            64,
        ),
        (
            "tanh",
            MlpInput::Rms,
            Labels::Iid,
            MlpRows::Gaussian,
            512,
            32,
            32,
            2048,
            64,
        ),
        (
            "gelu",
            MlpInput::Rms,
            Labels::Iid,
            MlpRows::Balanced,
            256,
            32,
            32,
            1024,
            64,
        ),
        (
            "abs:0,1",
            MlpInput::Rms,
            Labels::Iid,
            MlpRows::Gaussian,
            256,
            48,
            16,
            4096,
            64,
        ),
        (
            "abs:0.3,1",
            MlpInput::Rms,
            Labels::Iid,
            MlpRows::Gaussian,
            256,
            48,
            16,
            2048,
            128,
        ),
        (
            "hermite-2",
            MlpInput::Rms,
            Labels::Iid,
            MlpRows::Gaussian,
            256,
            32,
            16,
            4096,
            64,
        ),
        (
            "linear",
            MlpInput::Rms,
            Labels::Iid,
            MlpRows::Gaussian,
            256,
            32,
            64,
            512,
            128,
        ),
    ] {
        let mut mlp = layer(activation, m, input);
        mlp.rows = rows;
        let mut s = Setting::new(v, d, len, n).with_mlp(mlp);
        s.labels = labels;
        let outcomes = simulate(&s, 12, false);
        let b = budget(&s, &mlp);
        let (quiet, error) = mean(outcomes.iter().map(|o| o.interference_squared));
        let ratio = (quiet / b.interference).sqrt();
        let allowed = 0.1 + 2.0 * 0.5 * error / quiet;
        assert!(
            (ratio - 1.0).abs() < allowed,
            "{activation} {input:?}: measured/predicted {ratio:.3}, allowed {allowed:.3}"
        );
        let (signal, error) = mean(outcomes.iter().map(|o| o.signal));
        assert!(
            (signal - b.signal).abs() < 0.05 * b.signal + 3.0 * error,
            "{activation}: signal {signal} +- {error}, predicted {}",
            b.signal
        );
        logs.push(ratio.ln());
    }
    let geometric = (logs.iter().sum::<f64>() / logs.len() as f64).exp();
    assert!((geometric - 1.0).abs() < 0.06, "{geometric}");
}

/// Interventions switch single terms of the attention noise off or on, in theory and simulation.
#[test]
fn interventions_isolate_terms_of_the_attention_noise() {
    let term = |s: &Setting, name: &str| {
        let b = budget(s, s.model.mlp().unwrap());
        b.variance[MLP_NOISE_NAMES.iter().position(|n| *n == name).unwrap()] / b.interference
    };
    let check = |s: &Setting| {
        let (quiet, error) = mean(
            simulate(s, 16, false)
                .iter()
                .map(|o| o.interference_squared),
        );
        let ratio = (quiet / budget(s, s.model.mlp().unwrap()).interference).sqrt();
        let allowed = 0.1 + 2.0 * 0.5 * error / quiet;
        assert!(
            (ratio - 1.0).abs() < allowed,
            "{s:?}: {ratio:.3} {allowed:.3}"
        );
        quiet
    };
    // The mean row of W: most of the noise, gone with balanced rows.
    let mut relu = layer("relu", 64, MlpInput::Rms);
    let plain = Setting::new(512, 32, 32, 2048).with_mlp(relu);
    relu.rows = MlpRows::Balanced;
    let balanced_rows = plain.with_mlp(relu);
    assert!(term(&plain, "mean_bias_mlp") > 0.5 && term(&balanced_rows, "mean_bias_mlp") == 0.0);
    assert!(check(&plain) > 2.5 * check(&balanced_rows));

    // A normalised linear layer has no mean bias with random labels and all of it with balanced
    // ones: a sample does not meet itself.
    let linear = layer("linear", 4096, MlpInput::Rms);
    let iid = Setting::new(512, 32, 48, 2048).with_mlp(linear);
    let mut balanced = iid;
    balanced.labels = Labels::Balanced;
    assert!(term(&iid, "mean_bias") < 0.25 && term(&balanced, "mean_bias") > 0.6);
    check(&iid);
    check(&balanced);

    // The finite width.
    let narrow = Setting::new(256, 48, 16, 2048).with_mlp(layer("tanh", 16, MlpInput::Rms));
    let wide = Setting::new(256, 48, 16, 2048).with_mlp(layer("tanh", 2048, MlpInput::Rms));
    assert!(term(&narrow, "mlp_noise") > 0.3 && term(&wide, "mlp_noise") < 0.05);
    assert!(check(&narrow) > 2.0 * check(&wide));
}

#[test]
fn accuracies_of_three_steps_agree() {
    let mut errors = Vec::new();
    for (activation, v, d, len, n, m) in [
        ("abs:0.3,1", 256, 48, 16, 2048, 128),
        ("abs:0.3,1", 256, 64, 32, 2048, 64),
        ("centred-relu", 256, 64, 32, 2048, 128),
        ("relu", 256, 64, 16, 4096, 256),
        ("tanh", 128, 48, 16, 1024, 64),
        ("hermite:0,0.5,0.866", 256, 64, 32, 2048, 64),
    ] {
        let s = Setting::new(v, d, len, n).with_mlp(layer(activation, m, MlpInput::Rms));
        let outcomes = simulate(&s, 12, false);
        let (attention, e1) = mean(outcomes.iter().map(|o| o.attention.rate()));
        let (accuracy, e2) = mean(outcomes.iter().map(|o| o.accuracy.rate()));
        let (p1, p2) = (attention_accuracy(&s), end_to_end_accuracy(&s));
        assert!(
            (p1 - attention).abs() < 0.06 + 2.0 * e1,
            "{activation} attention: predicted {p1:.3}, measured {attention:.3} +- {e1:.3}"
        );
        assert!(
            (p2 - accuracy).abs() < 0.06 + 2.0 * e2,
            "{activation} end to end: predicted {p2:.3}, measured {accuracy:.3} +- {e2:.3}"
        );
        errors.push(p2 - accuracy);
    }
    let bias = errors.iter().sum::<f64>() / errors.len() as f64;
    assert!(bias.abs() < 0.04, "{bias} {errors:?}");
}

/// With orthonormal outputs and balanced labels little but the samples themselves is read: the
/// constant of a raw activation cancels, a saturated one meets itself with less than its slope, and
/// the width adds to the mean embedding with the slope at the overlap of two samples. Without these
/// the ratios are .5 to .85.
#[test]
fn a_sample_meets_itself_with_its_own_weights() {
    for (activation, input, v, d, len, n, m) in [
        ("abs:0,1", MlpInput::Raw, 256, 40, 48, 512, 24),
        ("tanh", MlpInput::Raw, 256, 128, 8, 192, 512),
        ("abs:0,1", MlpInput::Rms, 160, 40, 64, 640, 32),
    ] {
        let mlp = layer(activation, m, input);
        let mut s = Setting::new(v, d, len, n)
            .with_mlp(mlp)
            .with_embeddings(Embedding::Sphere, Embedding::Orthonormal);
        s.labels = Labels::Balanced;
        let (quiet, error) = mean(
            simulate(&s, 24, false)
                .iter()
                .map(|o| o.interference_squared),
        );
        let ratio = (quiet / budget(&s, &mlp).interference).sqrt();
        let allowed = 0.1 + 2.0 * 0.5 * error / quiet;
        assert!(
            (ratio - 1.0).abs() < allowed,
            "{activation} {input:?}: {ratio:.3} {allowed:.3}"
        );
    }
}

/// Only competing kernel values disturb orthonormal outputs. In a narrow layer their shape is that
/// of the units that carry the token; balanced rows lower the width noise, and counts that do not
/// divide are two classes of competitors with a mean bias each.
#[test]
fn recall_of_narrow_layers_with_orthonormal_outputs_agrees() {
    for (activation, input, rows, v, d, n, m, labels) in [
        (
            "hermite-2",
            MlpInput::Rms,
            MlpRows::Balanced,
            192,
            48,
            128,
            16,
            Labels::Balanced,
        ),
        (
            "hermite-2",
            MlpInput::Raw,
            MlpRows::Gaussian,
            352,
            80,
            704,
            16,
            Labels::Balanced,
        ),
        (
            "softplus",
            MlpInput::Raw,
            MlpRows::Balanced,
            304,
            50,
            456,
            80,
            Labels::Balanced,
        ),
        (
            "softplus",
            MlpInput::Rms,
            MlpRows::Gaussian,
            298,
            31,
            247,
            83,
            Labels::Balanced,
        ),
        (
            "relu",
            MlpInput::Rms,
            MlpRows::Gaussian,
            176,
            32,
            1024,
            48,
            Labels::Iid,
        ),
    ] {
        let mut mlp = layer(activation, m, input);
        mlp.rows = rows;
        let mut s = Setting::new(v, d, 4, n)
            .with_mlp(mlp)
            .with_embeddings(Embedding::Sphere, Embedding::Orthonormal);
        s.labels = labels;
        let (measured, error) = mean(simulate(&s, 16, false).iter().map(|o| o.recall.rate()));
        let stated = recall_accuracy(&s);
        assert!(
            (measured - stated).abs() < 0.04 + 2.0 * error,
            "{activation}: {measured} +- {error}, predicted {stated}"
        );
    }
}

/// Accuracy per attention, where attention is imperfect in training as at test: what is stored then.
/// The measured accuracy less the predicted one times measured over predicted attention, so that an
/// error of the attention formula does not enter.
#[test]
fn accuracy_per_attention_agrees_where_attention_is_imperfect() {
    for (activation, input, labels, v, d, len, n) in [
        ("relu", MlpInput::Raw, Labels::Iid, 128, 48, 32, 384),
        (
            "softplus",
            MlpInput::Raw,
            Labels::Balanced,
            128,
            64,
            40,
            256,
        ),
        (
            "softplus",
            MlpInput::Raw,
            Labels::Balanced,
            128,
            64,
            64,
            256,
        ),
        (
            "centred-relu",
            MlpInput::Rms,
            Labels::Balanced,
            192,
            48,
            24,
            384,
        ),
        ("abs:0.3,1", MlpInput::Rms, Labels::Iid, 192, 64, 32, 384),
        ("abs:0.3,1", MlpInput::Rms, Labels::Iid, 192, 64, 48, 384),
    ] {
        let mut s = Setting::new(v, d, len, n).with_mlp(layer(activation, 128, input));
        s.labels = labels;
        let outcomes = simulate(&s, 24, false);
        let per_attention = end_to_end_accuracy(&s) / attention_accuracy(&s);
        let (attention, _) = mean(outcomes.iter().map(|o| o.attention.rate()));
        let (excess, error) = mean(
            outcomes
                .iter()
                .map(|o| o.accuracy.rate() - per_attention * o.attention.rate()),
        );
        assert!(
            (0.25..0.96).contains(&attention),
            "{activation} {attention}"
        );
        assert!(
            excess.abs() < 0.02 + 2.0 * error,
            "{activation} {len}: {excess} +- {error}"
        );
    }
}

/// Little but one term is left: the mean embedding, which class mates read less than others do, and the
/// residue of many samples, in which a longer token makes its own input longer. Without these two the
/// ratios are 1.2 and .85.
#[test]
fn class_mates_and_norms_of_tokens_count() {
    for (v, d, len, n, m, trials) in [(256, 64, 64, 4096, 512, 32), (256, 64, 4, 16384, 128, 48)] {
        let mlp = layer("tanh", m, MlpInput::Rms);
        let mut s = Setting::new(v, d, len, n).with_mlp(mlp);
        s.labels = Labels::Balanced;
        let (quiet, error) = mean(
            simulate(&s, trials, false)
                .iter()
                .map(|o| o.interference_squared),
        );
        let ratio = (quiet / budget(&s, &mlp).interference).sqrt();
        let allowed = 0.04 + 2.0 * 0.5 * error / quiet;
        assert!(
            (ratio - 1.0).abs() < allowed,
            "V {v} L {len}: {ratio:.3} {allowed:.3}"
        );
    }
}
