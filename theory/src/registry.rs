//! Every formula and every claim by a stable id: what it says, where it is derived, what it
//! assumes and which test could refute it.

use serde::Serialize;

/// Exponents of a power law.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Exponents {
    /// Of `V`.
    pub vocab: f64,
    /// Of `N`.
    pub samples: f64,
    /// Of `d`, both dimensions together.
    pub dim: f64,
    /// Of `L`.
    pub len: f64,
}

/// A formula of this crate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Formula {
    /// Stable id.
    pub id: &'static str,
    /// What it gives.
    pub title: &'static str,
    /// The formula; for a noise term its leading order, as a standard deviation over `S0`.
    pub latex: &'static str,
    /// Note that derives it, `file.md#anchor`.
    pub note: &'static str,
    /// What it rests on.
    pub assumptions: &'static str,
    /// Where it holds or where the leading form applies.
    pub regime: &'static str,
    /// Test of this crate that fails if it is wrong, or `simulation:` and a test of
    /// `tests/formulas.rs` (or of another file, `file::test`), or `claim:` and the id of the claim by which simulation tests it.
    pub tested_by: &'static str,
    /// Exponents of the leading form, where it is one power.
    pub exponents: Option<Exponents>,
}

const RANDOM: &str = "random embeddings (Gaussian or sphere), iid labels, d_in = d_out = d";
const GAUSS: &str = "sums of many weakly dependent terms are Gaussian";

#[allow(clippy::too_many_arguments)]
const fn f(
    id: &'static str,
    title: &'static str,
    latex: &'static str,
    note: &'static str,
    assumptions: &'static str,
    regime: &'static str,
    tested_by: &'static str,
    exponents: Option<Exponents>,
) -> Formula {
    Formula {
        id,
        title,
        latex,
        note,
        assumptions,
        regime,
        tested_by,
        exponents,
    }
}

const fn e(vocab: f64, samples: f64, dim: f64, len: f64) -> Option<Exponents> {
    Some(Exponents {
        vocab,
        samples,
        dim,
        len,
    })
}

const EXPONENT_TEST: &str = "registry::tests::noise_exponents_are_those_of_the_budget";

/// All formulas.
pub static FORMULAS: &[Formula] = &[
    f(
        "attention.signal",
        "Mean attention signal",
        r"T = (1-1/L)\,(1-1/V)\,\mathbb E\,V\sum_j n_j(n_j-1)/N^2",
        "attention.md#2-splits",
        "trigger outside the values (else + V|delta|^2)",
        "exact mean",
        "registry::tests::signal_counts_pairs_of_samples",
        None,
    ),
    f(
        "attention.budget",
        "Noise budget of the attention step",
        r"\mathrm{Var}_v\,w^\top z_{in}(v) = \sum_{i=1}^{9} \sigma_i^2",
        "attention.md#3-the-nine-terms",
        GAUSS,
        "any size",
        "registry::tests::noise_exponents_are_those_of_the_budget",
        None,
    ),
    f(
        "attention.mean_bias",
        "Label imbalance times mean embedding",
        r"\sigma = \frac{L^2\sqrt V}{N d^{3/2}}",
        "attention.md#3-the-nine-terms",
        RANDOM,
        "1 << d << V, L >> 1",
        EXPONENT_TEST,
        e(0.5, -1.0, -1.5, 2.0),
    ),
    f(
        "attention.mean_bias_flow",
        "Mean embedding read by sequence noise",
        r"\sigma = \frac{L^{3/2}\sqrt V}{N d^{3/2}}",
        "attention.md#3-the-nine-terms",
        RANDOM,
        "1 << d << V, d << N << L V",
        EXPONENT_TEST,
        e(0.5, -1.0, -1.5, 1.5),
    ),
    f(
        "attention.cross",
        "Label imbalance times sequence noise",
        r"\sigma = \frac{L^{3/2}V}{N d^2}",
        "attention.md#3-the-nine-terms",
        RANDOM,
        "1 << d << V, N >> d",
        EXPONENT_TEST,
        e(1.0, -1.0, -2.0, 1.5),
    ),
    f(
        "attention.gradient_noise",
        "Sequence noise in both steps",
        r"\sigma = \frac{L V}{N d^{3/2}}",
        "attention.md#3-the-nine-terms",
        RANDOM,
        "1 << d << V, N >> d",
        EXPONENT_TEST,
        e(1.0, -1.0, -1.5, 1.0),
    ),
    f(
        "attention.signal_noise",
        "Signal times sequence noise",
        r"\sigma = \sqrt{\frac{2LV}{N d^3}}",
        "attention.md#3-the-nine-terms",
        RANDOM,
        "1 << d << V << N, L >> 1",
        EXPONENT_TEST,
        e(0.5, -0.5, -1.5, 0.5),
    ),
    f(
        "attention.signal_bias",
        "Signal times label imbalance",
        r"\sigma = \frac{L\sqrt V}{\sqrt N d^2}",
        "attention.md#3-the-nine-terms",
        RANDOM,
        "1 << d << V << N",
        EXPONENT_TEST,
        e(0.5, -0.5, -2.0, 1.0),
    ),
    f(
        "attention.population",
        "Residue of the population gradient",
        r"\sigma = d^{-3/2}",
        "attention.md#3-the-nine-terms",
        RANDOM,
        "1 << d << V/4",
        EXPONENT_TEST,
        e(0.0, 0.0, -1.5, 0.0),
    ),
    f(
        "attention.label_count",
        "Counts of the token's own label",
        r"\sigma = \frac{2}{\sqrt{N d}}",
        "attention.md#3-the-nine-terms",
        RANDOM,
        "sqrt(V) << d << V << N",
        EXPONENT_TEST,
        e(0.0, -0.5, -0.5, 0.0),
    ),
    f(
        "attention.trigger",
        "Tokens that resemble the trigger",
        r"\sigma = T/\sqrt d",
        "attention.md#3-the-nine-terms",
        "random inputs, trigger outside the values",
        "N >> V^{1/2}, L >> 1",
        EXPONENT_TEST,
        e(0.0, 0.0, -0.5, 0.0),
    ),
    f(
        "attention.signal_variance",
        "Variance of the signal between trials",
        r"\mathrm{Var}\,T",
        "attention.md#5-variance-of-the-signal",
        GAUSS,
        "any size",
        "simulation:short_sequences_where_counts_and_population_lead",
        None,
    ),
    f(
        "attention.accuracy",
        "Accuracy of argmax attention",
        r"P = \mathbb E\,\Phi(r + g)^{L_{\mathrm{eff}}}",
        "accuracy.md#3-argmax-attention",
        GAUSS,
        "any size",
        "claim:accuracy-curves",
        None,
    ),
    f(
        "attention.competitors",
        "Distinct competitors",
        r"L_{\mathrm{eff}} = (V-1)\,(1-(1-1/V)^{L-1})",
        "accuracy.md#1-competitors",
        "uniform fillers",
        "exact mean",
        "registry::tests::competitors_are_the_distinct_fillers",
        None,
    ),
    f(
        "attention.weight",
        "Mean softmax weight at strength G",
        r"\mathbb E\,\alpha(G)",
        "accuracy.md#5-finite-strength",
        "random-energy form of the partition sum",
        "L >> 1",
        "simulation:end_to_end_accuracy_with_argmax_and_softmax",
        None,
    ),
    f(
        "recall.accuracy",
        "Recall accuracy with saturated attention",
        r"P = \sum_k \mathrm{Poi}(k)\,\mathbb E\,\Phi\bigl((\kappa z_i^2 z_o^2 + \mathrm{own}\,g)/\mathrm{cmp}\bigr)^{V-1}",
        "recall.md#2-probability-of-recall",
        GAUSS,
        "any size",
        "thresholds::tests::recall_threshold_of_the_derivation",
        None,
    ),
    f(
        "accuracy.end_to_end",
        "End-to-end accuracy, argmax attention",
        r"P = \mathbb E\,A(g)\,P_{\mathrm{rec}}(A(g))",
        "accuracy.md#4-end-to-end",
        GAUSS,
        "any size",
        "claim:accuracy-curves",
        None,
    ),
    f(
        "accuracy.softmax",
        "End-to-end accuracy at finite strength",
        r"P = \mathbb E\,A(g)\,P_{\mathrm{rec}}(\kappa\,\alpha(g), \mathrm{clutter})",
        "accuracy.md#5-finite-strength",
        "random-energy form of the partition sum; checked at few points",
        "L >> 1",
        "simulation:end_to_end_accuracy_with_argmax_and_softmax",
        None,
    ),
    f(
        "thresholds.coverage",
        "Samples that cover the vocabulary",
        r"N^* = V\log\tfrac1{1-p}\ (\text{balanced: } pV)",
        "thresholds.md#2-asymptotic-laws",
        "iid or balanced labels",
        "V >> 1",
        "thresholds::tests::asymptotic_thresholds_invert_the_closed_forms",
        e(1.0, 0.0, 0.0, 0.0),
    ),
    f(
        "thresholds.memory",
        "Memory of the value matrix",
        r"d^2 = 2V\log V\,(1+V/N)",
        "thresholds.md#2-asymptotic-laws",
        "random embeddings on both sides",
        "V >> d >> log V",
        "thresholds::tests::asymptotic_thresholds_invert_the_closed_forms",
        None,
    ),
    f(
        "thresholds.gradient_noise",
        "Samples against gradient noise",
        r"N^* = \sqrt{2\log L}\,\frac{LV}{d_{in}d_{out}^{1/2}}\ \Bigl(\text{orthonormal outputs: } \sqrt{1+d\nu}\,\frac{L\sqrt V}{d}\Bigr)",
        "thresholds.md#2-asymptotic-laws",
        "random inputs; nu = 2/d for Gaussian rows, 0 on the sphere",
        "L << sqrt(V), L << d; balanced labels at any L",
        "thresholds::tests::attention_laws_are_the_leading_noise_at_large_sizes",
        None,
    ),
    f(
        "thresholds.mean_bias",
        "Samples against mean bias",
        r"N^* = \sqrt{2\log L}\,\frac{L^2\sqrt V}{d_{in}^{3/2}}",
        "thresholds.md#2-asymptotic-laws",
        "random inputs, iid labels",
        "L >> sqrt(V), L >> V/d",
        "thresholds::tests::attention_laws_are_the_leading_noise_at_large_sizes",
        None,
    ),
    f(
        "thresholds.cross",
        "Samples against the cross term",
        r"N^* = \sqrt{2\log L}\,\frac{L^{3/2}V}{d_{in}^{3/2}d_{out}^{1/2}}",
        "thresholds.md#2-asymptotic-laws",
        "random inputs, iid labels",
        "d << L << V/d",
        "thresholds::tests::attention_laws_are_the_leading_noise_at_large_sizes",
        None,
    ),
    f(
        "thresholds.trigger",
        "Dimension against tokens like the trigger",
        r"d > 2\log L",
        "thresholds.md#2-asymptotic-laws",
        "random inputs",
        "L >> 1",
        "thresholds::tests::laws_say_where_they_are_not_stated",
        None,
    ),
    f(
        "thresholds.regime",
        "Constraint that binds",
        r"\arg\max_c N^*_c",
        "thresholds.md#2-asymptotic-laws",
        "leading-order laws",
        "boundaries are crossovers",
        "thresholds::tests::regimes_are_found_on_their_grounds",
        None,
    ),
    f(
        "thresholds.noise_ratio",
        "Samples at a noise ratio",
        r"\sqrt{\sigma^2_{\mathrm{int}}(N)}\,/\,T(N) = c",
        "thresholds.md#3-noise-ratio",
        "trigger crosstalk left out",
        "any size",
        "thresholds::tests::noise_ratio_thresholds_and_their_slopes",
        None,
    ),
    f(
        "lower_bound.samples",
        "Samples that any reader of the first gradient needs",
        r"N \ge \max(N_{\mathrm{cov}}, N_{\mathrm{ch}})",
        "lower_bound.md#5-combined-forms",
        "coverage rigorous, channel under the Gaussian surrogate",
        "any size",
        "lower_bound::tests::sample_bound_and_accuracy_bound_are_inverse",
        None,
    ),
    f(
        "lower_bound.dimension",
        "Dimension that any reader of the first gradient needs",
        r"d_{in}d_{out} \ge 2R/\log(1+s)",
        "lower_bound.md#5-combined-forms",
        "Gaussian surrogate",
        "any size",
        "lower_bound::tests::dimension_and_vocabulary_bounds_invert_the_channel",
        None,
    ),
    f(
        "lower_bound.vocab",
        "Vocabulary that the bounds allow",
        r"\max\{V : R(V) \le I(V)\}",
        "lower_bound.md#5-combined-forms",
        "Gaussian surrogate",
        "any size",
        "lower_bound::tests::dimension_and_vocabulary_bounds_invert_the_channel",
        None,
    ),
    f(
        "lower_bound.accuracy",
        "Accuracy bound for readers of the first gradient",
        r"\overline{\mathrm{acc}} = \min(R^{-1}(I(N)), \mathrm{cov}(N))",
        "lower_bound.md#5-combined-forms",
        "coverage rigorous, channel under the Gaussian surrogate",
        "any size",
        "lower_bound::tests::sample_bound_and_accuracy_bound_are_inverse",
        None,
    ),
    f(
        "lower_bound.need",
        "Information that a target accuracy needs",
        r"R = \sup_x[aV\log(1+x) - \log\textstyle\sum_{k\le V} x^k/k!]",
        "lower_bound.md#1-what-a-target-costs-in-information",
        "rigorous",
        "any size",
        "lower_bound::tests::accuracy_need_is_the_legendre_transform",
        None,
    ),
    f(
        "lower_bound.channel",
        "Information in the first gradient",
        r"I \le \tfrac12 r_{in}r_{out}\log(1+s)",
        "lower_bound.md#2-the-first-gradient-as-a-channel",
        "Gaussian surrogate",
        "any size",
        "lower_bound::tests::balanced_channel_is_the_log_det",
        None,
    ),
    f(
        "lower_bound.coverage",
        "Accuracy that coverage allows",
        r"\mathrm{cov}(N)",
        "lower_bound.md#4-coverage-binds-every-procedure-r",
        "rigorous",
        "any size",
        "lower_bound::tests::coverage_is_the_enumerated_expectation",
        None,
    ),
    f(
        "lower_bound.noisy_oracle",
        "Accuracy bound for readers of a noisy first gradient",
        r"I(\pi; G + \Xi) \le \tfrac12 r_{in}r_{out}\log(1+s/\kappa)",
        "lower_bound.md#without-the-surrogate-a-noisy-oracle-r",
        "rigorous",
        "any size, any kappa > 0",
        "lower_bound::tests::the_noisy_oracle_theorem_holds_step_by_step",
        None,
    ),
    f(
        "lower_bound.precision",
        "Accuracy bound for a gradient of finite precision",
        r"R(a) \le b\,d_{in}d_{out}\log 2",
        "lower_bound.md#5-combined-forms",
        "rigorous",
        "any size, b bits per entry",
        "lower_bound::tests::other_forms",
        None,
    ),
    f(
        "lower_bound.multiplicative",
        "Dimension below which the bound is a product",
        r"d < \sqrt{2LV}",
        "lower_bound.md#5-combined-forms",
        "Gaussian surrogate; exact recovery, leading order",
        "V >> L, d >> sqrt(2 V log V)",
        "lower_bound::tests::the_product_ends_at_the_stated_dimension",
        None,
    ),
    f(
        "whitened.accuracy",
        "Accuracy of the whitened decoder of the first gradient",
        r"\mathrm{acc} = \mathbb E\,[P(\text{rival} < \text{own})]^{V-1}",
        "whitened.md#3-the-race-between-labels",
        GAUSS,
        "N L / V^2 not far below 1",
        "claim:decoder-thresholds",
        None,
    ),
    f(
        "whitened.samples",
        "Samples of the whitened decoder, closed form",
        r"N_{wh} = V(L-1)\frac{x^2}{r^2/V - x^2}",
        "whitened.md#2-the-closed-form",
        "equal label counts, stored facts as white noise",
        "d << V, r^2 > V x^2",
        "whitened::tests::closed_form_is_the_white_noise_race",
        None,
    ),
    f(
        "query_bound.snr",
        "Signal-to-noise ratio of the query given the first gradient",
        r"\mathrm{snr} = T^2/|\xi|^2 \approx (Nd/(LV))^2",
        "query_bound.md#4-size-of-the-noise",
        "Gaussian surrogate, dominant term of the noise, T known",
        "trigger in the keys only, random inputs",
        "claim:query-bound",
        None,
    ),
    f(
        "query_bound.alignment",
        "Alignment with the trigger that any reader of step 2 can have",
        r"\mathbb E\frac{(q^\top z_{trig})^2}{|q|^2} \le \frac{\mathrm{snr}}{1+\mathrm{snr}} + \frac1{d(1+\mathrm{snr})}",
        "query_bound.md#3-the-bound",
        "isotropic Gaussian channel",
        "any snr",
        "query_bound::tests::alignment_bound_is_the_posterior",
        None,
    ),
    f(
        "one_step.accuracy",
        "Accuracy of the matched filter on the first gradient",
        r"\mathrm{acc} = \mathbb E\,[P(B_{vj'}<b)]^{V-1}",
        "one_step.md#3-the-projection-and-the-maximum",
        GAUSS,
        "any size",
        "one_step::tests::prototype_measurements_are_met",
        None,
    ),
    f(
        "one_step.samples",
        "Samples of the matched filter, leading law",
        r"N\,d_{in}d_{out} = 2LV^2\log V",
        "one_step.md#budget-and-leading-law",
        "batch noise leads",
        "log V << d, d^2 << 2LV, d^2 >> 2V log V; iid labels: L << V",
        "one_step::tests::leading_law_is_approached",
        e(2.0, 0.0, -2.0, 1.0),
    ),
    f(
        "mlp.hermite",
        "Hermite coefficients of an activation",
        r"c_k = \mathbb E\,\varphi(g)\,\mathrm{He}_k(g)/\sqrt{k!}",
        "mlp/hermite.md#1-definitions",
        "exact",
        "any activation; order 24",
        "mlp::hermite::tests::coefficients_obey_parseval_and_stein",
        None,
    ),
    f(
        "mlp.kernel",
        "Moments of the hidden-layer kernel",
        r"\mathbb E_W\mathrm{Var}_{u'}K = (1-\tfrac1m)\mathrm{Var}\,k_\infty + \tfrac1m\mathbb E_w\varphi^2\,\mathrm{Var}_{u'}\varphi'",
        "mlp/kernel.md#2-variance-over-the-other-rows",
        "exact in 1/d and 1/m, for Gaussian or unit rows",
        "d >= 3",
        "mlp::kernel::tests::linear_kernels_have_wishart_moments",
        None,
    ),
    f(
        "mlp.recall_accuracy",
        "Recall through the hidden layer",
        r"\mathrm{recall} = \mathbb E\,[1-\bar\Phi(x)]^{V-1}",
        "mlp/recall.md#4-probability-of-recall",
        "heuristic: sums are Gaussian given the slow variables; own associations by three or four cumulants",
        "m >= 16, d >= 16; orthonormal outputs: m, d >= 32",
        "simulation:mlp_formulas::recall_agrees_over_activations",
        None,
    ),
    f(
        "mlp.width",
        "Critical width of recall",
        r"m^* = \frac{x_p^2 A}{1 - x_p^2 F}",
        "mlp/thresholds.md#2-critical-width-and-its-pole",
        "slow variables at their mean",
        "product law m d ~ V log V where the floor F x^2 < 1/4; pole at one",
        "mlp::thresholds::tests::the_product_law_holds_without_a_linear_part_and_has_its_constant",
        None,
    ),
    f(
        "mlp.capacity",
        "Vocabulary that any width can hold",
        r"x_p^2(V)\,F(V) = 1",
        "mlp/thresholds.md#3-caps",
        "slow variables at their mean",
        "d^2 where c1 != 0, d^3 where c1 = 0",
        "mlp::thresholds::tests::caps_have_the_powers_of_the_leading_interference",
        None,
    ),
    f(
        "mlp.signal",
        "Signal of the attention step through the hidden layer",
        r"T = (1-\tfrac1L)(1-\tfrac1V)\,\pi\,\kappa'(\rho)\,/\,\mathbb E|h|^2",
        "mlp/attention.md#2-signal",
        "leading order in 1/d beyond the overlap",
        "d >= 16",
        "simulation:mlp_formulas::attention_budget_agrees_over_activations",
        None,
    ),
    f(
        "mlp.budget",
        "Noise of the attention step through the hidden layer",
        r"\sigma^2 = \sum_{12}\sigma_i^2 + \mathrm{cov}",
        "mlp/attention.md#3-noise",
        "heuristic, leading order in 1/V and 1/L",
        "d >= 16, L >= 4, N >= V",
        "simulation:mlp_formulas::attention_budget_agrees_over_activations",
        None,
    ),
    f(
        "mlp.attention_accuracy",
        "Attention accuracy with a hidden layer",
        r"\mathrm{att} = \mathbb E\,\Phi(R+g)^{n_{\mathrm{eff}}}",
        "mlp/accuracy.md#1-states-of-a-trial",
        GAUSS,
        "as mlp.budget",
        "simulation:mlp_formulas::accuracies_of_three_steps_agree",
        None,
    ),
    f(
        "mlp.end_to_end",
        "End-to-end accuracy with a hidden layer",
        r"\mathrm{acc} = \mathbb E\,a\,\mathbb E_k\mathrm{rec}(k)\,e^{-uq_k}",
        "mlp/accuracy.md#2-end-to-end",
        GAUSS,
        "as mlp.budget and mlp.recall_accuracy",
        "simulation:mlp_formulas::accuracies_of_three_steps_agree",
        None,
    ),
    f(
        "mlp.constraints",
        "Sizes at which the mean noise meets the level",
        r"\max(N_{\mathrm{cov}}/N,\ x_p^2\sigma_{\mathrm{rec}}^2,\ 2\log L\,\sigma^2/T^2) = 1",
        "mlp/thresholds.md#4-constraints",
        "slow variables at their mean",
        "boundaries are crossovers",
        "mlp::thresholds::tests::laws_answer_for_every_variable",
        None,
    ),
    f(
        "finite_steps.small_step",
        "Deviation of query and values at a finite first step",
        r"\delta T/T = -\eta\,s_2/(NL), \quad \delta V_2 = -\Sigma_o V_1 \tilde\Sigma, \quad w_1 = -\tfrac1N\sum_n C_n V_1^\top\Sigma_o V_1\bar v_n",
        "finite_steps.md#1-how-small-the-first-step",
        GAUSS,
        "first order in eta; 1 << d <= V/2, N >= 4V, trigger outside the values",
        "simulation:finite_steps::small_steps_deviate_as_predicted",
        None,
    ),
    f(
        "finite_steps.saturating_strength",
        "Strength at which three-step accuracy is saturated",
        r"\mathrm{acc}(\infty)-\mathrm{acc}(\mathcal G)\le\text{tolerance}",
        "finite_steps.md#2-how-strong-the-second-step",
        "random-energy form of the partition sum",
        "G >= log L, tolerance up to .05, attention-only",
        "simulation:finite_steps::saturating_strength_leaves_its_tolerance",
        None,
    ),
    f(
        "finite_steps.query_rate",
        "Query rate of a strength",
        r"\mathcal G = \gamma_w |z_{EOS}|^2 T \eta/(L^2 V)",
        "finite_steps.md#2-how-strong-the-second-step",
        "mean signal",
        "eta -> 0",
        "simulation:finite_steps::query_rate_gives_the_strength",
        None,
    ),
    f(
        "finite_steps.training_attention",
        "Advantage of a training sample over a fresh sequence",
        r"\Delta = (2-1/L)/N \text{ (iid labels)}, \quad (1-V/N)/(LN) \text{ (balanced)}",
        "finite_steps.md#3-training-attention",
        GAUSS,
        "mean self-terms; L << V, trigger outside the values",
        "simulation:finite_steps::training_attention_is_ahead_of_fresh_attention",
        None,
    ),
];

/// The formula of an id.
#[must_use]
pub fn formula(id: &str) -> Option<&'static Formula> {
    FORMULAS.iter().find(|f| f.id == id)
}

/// What a claim is tested by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClaimKind {
    /// Measured exponents equal those of the finite-size formula at the same points.
    ExponentFiniteSize,
    /// Measured exponents equal those of the asymptotic law.
    ExponentAsymptotic,
    /// The mean ratio of measured and predicted values is one.
    FormulaMean,
    /// The signed errors of an accuracy formula over cells have mean, trend and scatter zero.
    AccuracyBias,
    /// No measured value exceeds a bound.
    BoundNotViolated,
    /// Two variants differ as stated.
    Contrast,
}

/// A claim that experiments test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Claim {
    /// Stable id.
    pub id: &'static str,
    /// In words, with LaTeX.
    pub statement: &'static str,
    /// Ids of the formulas it rests on.
    pub formula_ids: &'static [&'static str],
    /// What it assumes.
    pub assumptions: &'static str,
    /// The sizes it is about.
    pub window: &'static str,
    /// What it is tested by.
    pub kind: ClaimKind,
    /// Note, `file.md#anchor`.
    pub note: &'static str,
}

/// All claims.
pub static CLAIMS: &[Claim] = &[
    Claim {
        id: "attention-samples-balanced",
        statement: r"With balanced labels the samples at which the noise of the attention scores falls to a fixed fraction of the population signal scale as $N^* \sim L V / d^{3/2}$: exponents $(d, L, V) = (-3/2, 1, 1)$.",
        formula_ids: &[
            "thresholds.noise_ratio",
            "thresholds.gradient_noise",
            "attention.gradient_noise",
        ],
        assumptions: "balanced labels, random embeddings, argmax attention; noise relative to the population signal 1 - 1/L, without trigger crosstalk: not a threshold of trained accuracy",
        window: "d << V, N* >= 2V, L >> 1",
        kind: ClaimKind::ExponentAsymptotic,
        note: "thresholds.md#3-noise-ratio",
    },
    Claim {
        id: "attention-samples-orthonormal-output",
        statement: r"With orthonormal output embeddings and iid labels the samples at a fixed ratio of attention noise to signal scale as $N^* \sim L^2 V^{1/2} / d^{3/2}$.",
        formula_ids: &[
            "thresholds.noise_ratio",
            "thresholds.mean_bias",
            "attention.mean_bias",
        ],
        assumptions: "random inputs, orthonormal outputs, iid labels; trigger crosstalk left out",
        window: "d << V, L >> sqrt(d)",
        kind: ClaimKind::ExponentAsymptotic,
        note: "thresholds.md#3-noise-ratio",
    },
    Claim {
        id: "attention-samples-natural",
        statement: r"With random embeddings on both sides and iid labels the samples at a fixed ratio of attention noise to signal are those of the finite-size formula, in the gradient-noise regime and in the mean-bias regime; the asymptotic exponents are not reached at these sizes.",
        formula_ids: &["thresholds.noise_ratio", "attention.budget"],
        assumptions: "random embeddings, iid labels; trigger crosstalk left out",
        window: "V 128 to 4096, d 16 to 512, L 4 to 512, d <= V",
        kind: ClaimKind::ExponentFiniteSize,
        note: "thresholds.md#3-noise-ratio",
    },
    Claim {
        id: "recall-dimension",
        statement: r"The dimension at which half of the facts are recalled is that of the finite-size formula; to leading order $d^2 = 2 V \log V\,(1 + V/N)$.",
        formula_ids: &["recall.accuracy", "thresholds.memory"],
        assumptions: "attention saturated on the informative token, random embeddings, iid labels",
        window: "V 128 to 4096, N >= V",
        kind: ClaimKind::FormulaMean,
        note: "thresholds.md#2-asymptotic-laws",
    },
    Claim {
        id: "recall-samples",
        statement: r"The samples at which half of the facts are recalled are those of the finite-size formula; to leading order $N^* = \max\bigl(V\log\frac{1}{1-p},\ V/(d^2/(2V\log V) - 1)\bigr)$.",
        formula_ids: &[
            "recall.accuracy",
            "thresholds.coverage",
            "thresholds.memory",
        ],
        assumptions: "attention saturated on the informative token, random embeddings, iid labels",
        window: "V 128 to 4096, d^2 > 2 V log V",
        kind: ClaimKind::FormulaMean,
        note: "thresholds.md#2-asymptotic-laws",
    },
    Claim {
        id: "accuracy-curves",
        statement: r"The end-to-end accuracy of three steps follows the finite-size formula along curves in $N$: the mean of its signed errors over cells, their change along each size and their scatter are within the margins.",
        formula_ids: &["attention.accuracy", "accuracy.end_to_end"],
        assumptions: "argmax attention, random embeddings, iid labels",
        window: "V 128 to 4096, d 16 to 512, L 4 to 512, d <= V",
        kind: ClaimKind::AccuracyBias,
        note: "accuracy.md#4-end-to-end",
    },
    Claim {
        id: "phase-diagram",
        statement: r"The end-to-end accuracy over the plane $(N, d)$ follows the finite-size formula: the mean of its signed errors over cells, their change along each size and their scatter are within the margins.",
        formula_ids: &[
            "accuracy.end_to_end",
            "thresholds.coverage",
            "thresholds.memory",
            "thresholds.mean_bias",
        ],
        assumptions: "argmax attention, random embeddings, iid labels",
        window: "V 128 to 4096, d 16 to 512, L 4 to 512, d <= V",
        kind: ClaimKind::AccuracyBias,
        note: "thresholds.md#1-finite-size",
    },
    Claim {
        id: "first-gradient-bound",
        statement: r"Decoders that see the first gradient only do not exceed the upper bound on the accuracy of such estimators, nor, behind the noisy oracle, the theorem's.",
        formula_ids: &[
            "lower_bound.accuracy",
            "lower_bound.noisy_oracle",
            "lower_bound.channel",
            "lower_bound.coverage",
        ],
        assumptions: "the decoders see the first gradient, the label counts and the embeddings only; without added noise the channel bound holds under the Gaussian surrogate, behind the oracle it is rigorous",
        window: "V 128 to 4096",
        kind: ClaimKind::BoundNotViolated,
        note: "lower_bound.md#5-combined-forms",
    },
    Claim {
        id: "decoder-thresholds",
        statement: r"No decoder of the first gradient exceeds the upper bound on readers of it, and the whitened decoder has half of the facts at the samples of its formula.",
        formula_ids: &[
            "lower_bound.accuracy",
            "lower_bound.samples",
            "lower_bound.multiplicative",
            "whitened.accuracy",
            "whitened.samples",
        ],
        assumptions: "the decoders see the first gradient, the label counts and the embeddings only; the channel bound holds under the Gaussian surrogate; the whitened formula is heuristic",
        window: "balanced labels, V 64 to 512, d^2 > 2 V x^2, d <= V/2",
        kind: ClaimKind::BoundNotViolated,
        note: "whitened.md#3-the-race-between-labels",
    },
    Claim {
        id: "query-bound",
        statement: r"No query of step 2 is better aligned with the trigger than the channel that the first gradient leaves open allows, and the noise of that channel is that of the formula.",
        formula_ids: &["query_bound.snr", "query_bound.alignment"],
        assumptions: "trigger in the keys only; Gaussian sequence noise; dominant term of the noise; T known",
        window: "V 256 to 384, d <= V/4, L >= 16",
        kind: ClaimKind::BoundNotViolated,
        note: "query_bound.md#3-the-bound",
    },
    Claim {
        id: "one-step-formula",
        statement: r"The accuracy of the matched filter on the first gradient follows its finite-size formula: the mean of its signed errors over cells, their change along each size and their scatter are within the margins.",
        formula_ids: &["one_step.accuracy"],
        assumptions: "oracle query z_in(v) to the first gradient",
        window: "V 128 to 4096, d 16 to 512, L 4 to 512, d <= V",
        kind: ClaimKind::AccuracyBias,
        note: "one_step.md#3-the-projection-and-the-maximum",
    },
    Claim {
        id: "contrast-orthonormal",
        statement: r"The finite-size formula holds across embeddings: Gaussian, on the sphere, orthonormal outputs, orthonormal on both sides; the mean of the signed errors of the end-to-end accuracy over cells, their change along each size and their scatter are within the margins.",
        formula_ids: &["attention.budget", "recall.accuracy", "accuracy.end_to_end"],
        assumptions: "same V, L, N; orthonormal tables have dimension V",
        window: "N >= 4 sqrt(V), V 128 to 4096",
        kind: ClaimKind::Contrast,
        note: "thresholds.md#2-asymptotic-laws",
    },
    Claim {
        id: "contrast-population",
        statement: r"The finite-size formula holds from $N = V$ to the population gradient: the mean of the signed errors of the end-to-end accuracy over cells, their change along each size and their scatter are within the margins.",
        formula_ids: &[
            "attention.population",
            "attention.trigger",
            "attention.accuracy",
        ],
        assumptions: "random embeddings, argmax attention",
        window: "V 128 to 4096, d 16 to 512, d <= V",
        kind: ClaimKind::Contrast,
        note: "thresholds.md#2-asymptotic-laws",
    },
    Claim {
        id: "noise-terms",
        statement: r"Each term of the attention step's noise budget, isolated, has the size that its formula gives, and scales as it does: $\mathrm{Var}_v\,w^\top z_{in}(v) = \sum_i \sigma_i^2$.",
        formula_ids: &[
            "attention.budget",
            "attention.mean_bias",
            "attention.mean_bias_flow",
            "attention.cross",
            "attention.gradient_noise",
            "attention.signal_noise",
            "attention.signal_bias",
            "attention.label_count",
            "attention.trigger",
        ],
        assumptions: "random embeddings, iid labels, small first step",
        window: "V 128 to 4096, d 16 to 512, L 4 to 512, d <= V",
        kind: ClaimKind::FormulaMean,
        note: "attention.md#3-the-nine-terms",
    },
    Claim {
        id: "contrast-attention",
        statement: r"The samples at a fixed ratio of attention noise to signal are those of the finite-size formula with Gaussian, spherical and orthonormal embeddings and with balanced labels, on one and the same design.",
        formula_ids: &["thresholds.noise_ratio", "attention.budget"],
        assumptions: "trigger crosstalk left out; orthonormal tables have dimension V",
        window: "V 512 to 2048, d 16 to 64, L 32 to 256",
        kind: ClaimKind::Contrast,
        note: "thresholds.md#3-noise-ratio",
    },
    Claim {
        id: "contrast-population-dimension",
        statement: r"With the population gradient the dimension at which half of fresh sequences are answered is that of the finite-size formula: $d^2 \approx 2 V \log V$ whatever the length.",
        formula_ids: &[
            "recall.accuracy",
            "attention.accuracy",
            "thresholds.memory",
            "attention.trigger",
        ],
        assumptions: "random embeddings, infinite data, argmax attention",
        window: "V 256 to 2048, L 16 to 256",
        kind: ClaimKind::Contrast,
        note: "thresholds.md#2-asymptotic-laws",
    },
    Claim {
        id: "attention-dimension",
        statement: r"The dimension at which half of fresh sequences are attended at the informative position is that of the finite-size formula, where gradient noise, cross term and mean bias limit attention; to leading order $d^* \sim (LV/N)^{2/3}$ or $(L^2 V^{1/2}/N)^{2/3}$.",
        formula_ids: &["attention.accuracy"],
        assumptions: "random embeddings, iid labels, argmax attention",
        window: "V 128 to 512, d 20 to 100, L 16 to 256, N >= 4 sqrt(V)",
        kind: ClaimKind::FormulaMean,
        note: "accuracy.md#3-argmax-attention",
    },
    Claim {
        id: "contrast-steps",
        statement: r"The samples at which the matched filter on the first gradient, the attention of two steps and the answers of three steps are right half of the time are those of their finite-size formulas, on one and the same design.",
        formula_ids: &[
            "one_step.accuracy",
            "attention.accuracy",
            "accuracy.end_to_end",
        ],
        assumptions: "random embeddings, iid labels; the one-step reader is given the informative token",
        window: "V 128 to 384, d 96 to 192, L 64 to 256",
        kind: ClaimKind::Contrast,
        note: "thresholds.md#1-finite-size",
    },
    Claim {
        id: "regime-map",
        statement: r"Critical samples of the attention step and the capacity of full recall are those of the finite-size formulas across the regions in which coverage, memory, gradient noise, cross term and mean bias bind; capacity is multiplicative in $(N, d, L)$ inside a region, with the exponents of the law that binds there, and not across regions.",
        formula_ids: &[
            "thresholds.regime",
            "thresholds.noise_ratio",
            "thresholds.coverage",
            "thresholds.memory",
            "thresholds.gradient_noise",
            "thresholds.mean_bias",
            "thresholds.cross",
            "accuracy.end_to_end",
        ],
        assumptions: "random embeddings, iid labels, argmax attention; the regions are those of the asymptotic laws",
        window: "V 128 to 4096, d 16 to 384, L 4 to 768",
        kind: ClaimKind::FormulaMean,
        note: "thresholds.md#2-asymptotic-laws",
    },
    Claim {
        id: "mlp-width",
        statement: r"With a hidden layer and saturated attention the width at which half of the facts are recalled is that of the finite-size formula; where the floors that no width removes are small it is the product law $m\,d \approx (k_0/\tilde k)\,x_V^2\,V\,(1+V/N)$, $x_V^2 \to 2\log V$, and otherwise it has a pole.",
        formula_ids: &[
            "mlp.width",
            "mlp.recall_accuracy",
            "mlp.kernel",
            "mlp.hermite",
        ],
        assumptions: "fixed Gaussian hidden weights, normalised input, balanced labels",
        window: "V 128 to 2048, d 80 to 256, m 8 to 4096",
        kind: ClaimKind::FormulaMean,
        note: "mlp/thresholds.md#2-critical-width-and-its-pole",
    },
    Claim {
        id: "mlp-dimension",
        statement: r"The dimension that a wide hidden layer needs is that of the finite-size formula: $d^2 \propto V$ with a linear part in the activation, $d^3 \propto V$ without, up to logarithms.",
        formula_ids: &["mlp.capacity", "mlp.recall_accuracy", "mlp.kernel"],
        assumptions: "wide hidden layer, balanced labels, attention saturated",
        window: "V 128 to 2048, m 4096 and more",
        kind: ClaimKind::FormulaMean,
        note: "mlp/thresholds.md#3-caps",
    },
    Claim {
        id: "mlp-samples",
        statement: r"The samples that recall through a hidden layer needs are those of the finite-size formula: about $V^2$ with the mean of the activation, which label imbalance turns into noise, and $V$ without.",
        formula_ids: &["mlp.recall_accuracy", "mlp.constraints"],
        assumptions: "iid labels, attention saturated",
        window: "V 128 to 1024, d 192 to 384, m 1024 to 2048",
        kind: ClaimKind::FormulaMean,
        note: "mlp/recall.md#2-noise",
    },
    Claim {
        id: "mlp-noise",
        statement: r"The noise of the attention scores through a hidden layer is that of its budget, whose term mean bias times MLP vanishes with $\mathbb E\,\phi\phi'$ and with balanced rows.",
        formula_ids: &["mlp.budget", "mlp.signal"],
        assumptions: "normalised input, trigger crosstalk left out; raw input and unit vectors, or balanced labels, where the experiment says so",
        window: "V 128 to 1024, d 16 to 128, L 4 to 256, m 16 to 512",
        kind: ClaimKind::FormulaMean,
        note: "mlp/attention.md#3-noise",
    },
    Claim {
        id: "mlp-attention-curves",
        statement: r"The accuracy of attention through a hidden layer follows the finite-size formula along the width, for short and long sequences and for few and many samples: the mean of its signed errors over cells, their change along each size and their scatter are within the margins.",
        formula_ids: &["mlp.attention_accuracy"],
        assumptions: "centred even activation, normalised input, iid labels, argmax attention",
        window: "V = 512, d = 64, L 8 to 128, N 128 to 4096, m 64 to 256",
        kind: ClaimKind::AccuracyBias,
        note: "mlp/accuracy.md#2-end-to-end",
    },
    Claim {
        id: "mlp-phase",
        statement: r"Attention, recall and end-to-end accuracy over the plane of hidden width and dimension follow the finite-size formula: the mean of its signed errors over cells, their change along each size and their scatter are within the margins.",
        formula_ids: &[
            "mlp.recall_accuracy",
            "mlp.attention_accuracy",
            "mlp.end_to_end",
        ],
        assumptions: "normalised input, iid labels, argmax attention",
        window: "V = 512, d 24 to 128, m 16 to 2048",
        kind: ClaimKind::AccuracyBias,
        note: "mlp/accuracy.md#2-end-to-end",
    },
];

/// The claim of an id.
#[must_use]
pub fn claim(id: &str) -> Option<&'static Claim> {
    CLAIMS.iter().find(|c| c.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::{NOISE_NAMES, budget};
    use crate::setting::Setting;
    use crate::thresholds::{Quantity, Regime, Variable, accuracy_formula};

    #[test]
    fn ids_are_unique_and_references_resolve() {
        let mut ids: Vec<_> = FORMULAS.iter().map(|f| f.id).collect();
        ids.extend(CLAIMS.iter().map(|c| c.id));
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
        for claim in CLAIMS {
            for id in claim.formula_ids {
                assert!(formula(id).is_some(), "{} {id}", claim.id);
            }
        }
        for name in NOISE_NAMES {
            let f = formula(&format!("attention.{name}")).expect(name);
            assert!(f.exponents.is_some(), "{name}");
        }
        for regime in Regime::ALL {
            assert!(formula(regime.formula()).is_some());
        }
        for quantity in Quantity::ALL {
            assert!(formula(accuracy_formula(quantity)).is_some());
        }
        assert!(formula("no.such").is_none() && claim("recall-dimension").is_some());
    }

    #[test]
    fn notes_of_this_crate_have_the_anchors() {
        for (file, text) in [
            ("accuracy.md", include_str!("accuracy.md")),
            ("attention.md", include_str!("attention.md")),
            ("finite_steps.md", include_str!("finite_steps.md")),
            ("labels.md", include_str!("labels.md")),
            ("moments.md", include_str!("moments.md")),
            ("recall.md", include_str!("recall.md")),
            ("lower_bound.md", include_str!("lower_bound.md")),
            ("one_step.md", include_str!("one_step.md")),
            ("query_bound.md", include_str!("query_bound.md")),
            ("whitened.md", include_str!("whitened.md")),
            ("thresholds.md", include_str!("thresholds.md")),
            ("mlp/accuracy.md", include_str!("mlp/accuracy.md")),
            ("mlp/attention.md", include_str!("mlp/attention.md")),
            ("mlp/hermite.md", include_str!("mlp/hermite.md")),
            ("mlp/kernel.md", include_str!("mlp/kernel.md")),
            ("mlp/recall.md", include_str!("mlp/recall.md")),
            ("mlp/thresholds.md", include_str!("mlp/thresholds.md")),
        ] {
            let anchors: Vec<String> = text
                .lines()
                .filter_map(|line| line.strip_prefix("##"))
                .map(|line| {
                    line.trim_start_matches('#')
                        .trim()
                        .to_lowercase()
                        .chars()
                        .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
                        .map(|c| if c == ' ' { '-' } else { c })
                        .collect()
                })
                .collect();
            let notes = FORMULAS.iter().map(|f| f.note);
            for note in notes.chain(CLAIMS.iter().map(|c| c.note)) {
                if let Some(anchor) = note.strip_prefix(&format!("{file}#")) {
                    assert!(anchors.iter().any(|a| a == anchor), "{note} {anchors:?}");
                }
            }
        }
    }

    #[test]
    fn noise_exponents_are_those_of_the_budget() {
        // Sizes deep in the regime that each entry states.
        for (i, name) in NOISE_NAMES.iter().enumerate() {
            let s = match *name {
                "mean_bias_flow" => Setting::new(1 << 20, 1 << 11, 1 << 19, 1 << 30),
                "label_count" => Setting::new(1 << 22, 1 << 16, 1 << 12, 1 << 36),
                _ => Setting::new(1 << 22, 1 << 11, 1 << 15, 1 << 36),
            };
            let sizes = [s.vocab as u64, 0, s.dim_in as u64, s.len as u64];
            let n = s.samples.as_f64() as u64;
            let stated = formula(&format!("attention.{name}"))
                .and_then(|f| f.exponents)
                .expect("stated");
            for (variable, x, exponent) in [
                (Variable::Vocab, sizes[0], stated.vocab),
                (Variable::Samples, n, stated.samples),
                (Variable::Dim, sizes[2], stated.dim),
                (Variable::Len, sizes[3], stated.len),
            ] {
                let sd = |x: u64| budget(&variable.set(&s, x)).variance[i].sqrt();
                let slope = (sd(2 * x) / sd(x / 2)).ln() / 4f64.ln();
                assert!(
                    (slope - exponent).abs() < 0.05,
                    "{name} {variable:?} {slope} {exponent}"
                );
            }
        }
    }

    #[test]
    fn competitors_are_the_distinct_fillers() {
        // V = 3, L = 3: two fillers among three tokens; the two wrong tokens each appear with
        // probability 1 - (2/3)^2.
        let n = crate::accuracy::effective_competitors(&Setting::new(3, 2, 3, 1));
        assert!((n - 2.0 * 5.0 / 9.0).abs() < 1e-12);
    }

    #[test]
    fn signal_counts_pairs_of_samples() {
        use crate::setting::Labels;
        // Balanced, two samples per class: half of the ordered pairs within a class are distinct.
        let mut s = Setting::new(10, 4, 5, 20);
        s.labels = Labels::Balanced;
        let t = crate::attention::nominal_signal(&s);
        assert!((t - 0.8 * 0.9 * 0.5).abs() < 1e-12, "{t}");
        s.labels = Labels::Iid;
        let t = crate::attention::nominal_signal(&s);
        assert!((t - 0.8 * 0.9 * 0.95).abs() < 1e-12, "{t}");
    }

    #[test]
    fn named_tests_exist() {
        let sources = [
            ("lower_bound", include_str!("lower_bound.rs")),
            ("one_step", include_str!("one_step.rs")),
            ("query_bound", include_str!("query_bound.rs")),
            ("whitened", include_str!("whitened.rs")),
            ("thresholds", include_str!("thresholds/tests.rs")),
            ("registry", include_str!("registry.rs")),
            ("mlp::hermite", include_str!("mlp/hermite.rs")),
            ("mlp::kernel", include_str!("mlp/kernel.rs")),
            ("mlp::thresholds", include_str!("mlp/thresholds.rs")),
        ];
        for f in FORMULAS.iter().filter(|f| !f.tested_by.is_empty()) {
            if let Some(test) = f.tested_by.strip_prefix("simulation:") {
                let (file, test) = test.split_once("::").unwrap_or(("formulas", test));
                let tests = match file {
                    "finite_steps" => include_str!("../../tests/finite_steps.rs"),
                    "mlp_formulas" => include_str!("../../tests/mlp_formulas.rs"),
                    _ => include_str!("../../tests/formulas.rs"),
                };
                assert!(tests.contains(&format!("fn {test}(")), "{} {test}", f.id);
                continue;
            }
            if let Some(id) = f.tested_by.strip_prefix("claim:") {
                let known = claim(id).expect(f.id);
                assert!(known.formula_ids.contains(&f.id), "{} {id}", f.id);
                continue;
            }
            let (module, test) = f.tested_by.split_once("::tests::").expect("module");
            let name = format!("fn {test}()");
            let (_, text) = sources.iter().find(|s| s.0 == module).expect(module);
            assert!(text.contains(&name), "{} {}", f.id, f.tested_by);
        }
    }
}
