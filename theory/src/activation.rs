//! Activations of the attention-MLP model: what they are, as functions of one real number.
//!
//! The moments of an activation under a standard normal, from which the formulas are built, are
//! computed elsewhere by quadrature; here are the functions themselves, with their derivatives,
//! so that simulation and theory mean the same thing by a name.

use std::f64::consts::{FRAC_1_SQRT_2, PI};
use std::fmt;
use std::str::FromStr;

use libm::{erf, erfc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::gauss::pdf;

/// `sqrt(2 / pi) = E |x|`.
const MEAN_ABS: f64 = 0.797_884_560_802_865_4;

/// Highest Hermite degree of [`Activation::Hermite`].
pub const HERMITE_DEGREE: usize = 4;

/// An activation `phi` of the hidden layer. Written and read as its [`Display`](fmt::Display)
/// text: a name, or a name with parameters (`abs:0.3,1`).
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Activation {
    /// `x`.
    Linear,
    /// `max(x, 0)`, with derivative 0 at 0.
    Relu,
    /// `max(x, 0) - 1/sqrt(2 pi)`: mean zero under a standard normal.
    CentredRelu,
    /// `max(x, 0) + slope min(x, 0)`.
    LeakyRelu {
        /// Slope on the negative side.
        slope: f64,
    },
    /// `x Phi(x)`, the exact form.
    Gelu,
    /// `x / (1 + exp(-x))`.
    Silu,
    /// `log(1 + exp(x))`.
    Softplus,
    /// Hyperbolic tangent.
    Tanh,
    /// Error function.
    Erf,
    /// `|x| + slope x - shift sqrt(2/pi)`: `slope` sets the first Hermite coefficient, `shift` the
    /// mean, so that every noise term has a knob. `(1, 0)` is twice ReLU.
    Abs {
        /// `a`, the first Hermite coefficient.
        slope: f64,
        /// `s`; the mean is `(1 - s) sqrt(2/pi)`.
        shift: f64,
    },
    /// `sum_k c_k He_k(x) / sqrt(k!)` with the normalised coefficients given, `c_0` to `c_4`.
    Hermite {
        /// Normalised coefficients.
        coefficients: [f64; HERMITE_DEGREE + 1],
    },
}

impl Activation {
    /// `(x^2 - 1)/sqrt 2`, the second normalised Hermite polynomial.
    pub const HERMITE_2: Activation = Activation::Hermite {
        coefficients: [0.0, 0.0, 1.0, 0.0, 0.0],
    };

    /// One line per form for help texts and error messages.
    pub const FORMS: &'static str = "linear, relu, centred-relu, leaky-relu:SLOPE, gelu, silu, softplus, tanh, erf, abs:SLOPE,SHIFT (|x| + SLOPE x - SHIFT sqrt(2/pi)), hermite-2, hermite:C0,C1,C2[,C3[,C4]] (normalised coefficients)";

    /// `phi(x)`.
    #[must_use]
    pub fn value(self, x: f64) -> f64 {
        match self {
            Activation::Linear => x,
            Activation::Relu => x.max(0.0),
            Activation::CentredRelu => x.max(0.0) - 0.5 * MEAN_ABS,
            Activation::LeakyRelu { slope } => {
                if x > 0.0 {
                    x
                } else {
                    slope * x
                }
            }
            Activation::Gelu => x * 0.5 * erfc(-x * FRAC_1_SQRT_2),
            Activation::Silu => x * sigmoid(x),
            Activation::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
            Activation::Tanh => x.tanh(),
            Activation::Erf => erf(x),
            Activation::Abs { slope, shift } => x.abs() + slope * x - shift * MEAN_ABS,
            Activation::Hermite { coefficients: c } => {
                let he = normalised_hermite(x);
                c.iter().zip(he).map(|(c, h)| c * h).sum()
            }
        }
    }

    /// `phi'(x)`; at a kink the value from the left for ReLU and its kin, the mean of both sides
    /// for `|x|`.
    #[must_use]
    pub fn derivative(self, x: f64) -> f64 {
        match self {
            Activation::Linear => 1.0,
            Activation::Relu | Activation::CentredRelu => f64::from(u8::from(x > 0.0)),
            Activation::LeakyRelu { slope } => {
                if x > 0.0 {
                    1.0
                } else {
                    slope
                }
            }
            Activation::Gelu => 0.5 * erfc(-x * FRAC_1_SQRT_2) + x * pdf(x),
            Activation::Silu => {
                let s = sigmoid(x);
                s * (1.0 + x * (1.0 - s))
            }
            Activation::Softplus => sigmoid(x),
            Activation::Tanh => 1.0 - x.tanh().powi(2),
            Activation::Erf => 2.0 / PI.sqrt() * (-x * x).exp(),
            Activation::Abs { slope, .. } => {
                let side = if x == 0.0 { 0.0 } else { x.signum() };
                side + slope
            }
            Activation::Hermite { coefficients: c } => {
                // (He_k / sqrt(k!))' = sqrt(k) He_{k-1} / sqrt((k-1)!)
                let he = normalised_hermite(x);
                (1..=HERMITE_DEGREE)
                    .map(|k| c[k] * (k as f64).sqrt() * he[k - 1])
                    .sum()
            }
        }
    }

    /// Whether the function has a kink at the origin, where a quadrature must be split.
    #[must_use]
    pub fn has_kink(self) -> bool {
        matches!(
            self,
            Activation::Relu
                | Activation::CentredRelu
                | Activation::LeakyRelu { .. }
                | Activation::Abs { .. }
        )
    }
}

fn sigmoid(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + (-x).exp())
    } else {
        let e = x.exp();
        e / (1.0 + e)
    }
}

/// `He_k(x) / sqrt(k!)` for `k = 0..=4`.
fn normalised_hermite(x: f64) -> [f64; HERMITE_DEGREE + 1] {
    let mut he = [1.0, x, 0.0, 0.0, 0.0];
    for k in 1..HERMITE_DEGREE {
        let (k1, kf) = ((k as f64 + 1.0).sqrt(), (k as f64).sqrt());
        he[k + 1] = (x * he[k] - kf * he[k - 1]) / k1;
    }
    he
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Activation::Linear => f.write_str("linear"),
            Activation::Relu => f.write_str("relu"),
            Activation::CentredRelu => f.write_str("centred-relu"),
            Activation::LeakyRelu { slope } => write!(f, "leaky-relu:{slope}"),
            Activation::Gelu => f.write_str("gelu"),
            Activation::Silu => f.write_str("silu"),
            Activation::Softplus => f.write_str("softplus"),
            Activation::Tanh => f.write_str("tanh"),
            Activation::Erf => f.write_str("erf"),
            Activation::Abs { slope, shift } => write!(f, "abs:{slope},{shift}"),
            a if a == Activation::HERMITE_2 => f.write_str("hermite-2"),
            Activation::Hermite { coefficients: c } => {
                write!(f, "hermite:{},{},{},{},{}", c[0], c[1], c[2], c[3], c[4])
            }
        }
    }
}

/// A text that names no activation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no activation: use one of {forms}", forms = Activation::FORMS)]
pub struct ActivationError(pub String);

impl FromStr for Activation {
    type Err = ActivationError;

    fn from_str(text: &str) -> Result<Self, ActivationError> {
        let fail = || ActivationError(text.to_owned());
        let (name, parameters) = match text.split_once(':') {
            Some((name, list)) => {
                let numbers: Result<Vec<f64>, _> =
                    list.split(',').map(|x| x.trim().parse()).collect();
                let numbers = numbers.map_err(|_| fail())?;
                if numbers.iter().any(|x| !x.is_finite()) {
                    return Err(fail());
                }
                (name, numbers)
            }
            None => (text, Vec::new()),
        };
        Ok(match (name, parameters.as_slice()) {
            ("linear", []) => Activation::Linear,
            ("relu", []) => Activation::Relu,
            ("centred-relu" | "crelu", []) => Activation::CentredRelu,
            ("leaky-relu", &[slope]) => Activation::LeakyRelu { slope },
            ("gelu", []) => Activation::Gelu,
            ("silu" | "swish", []) => Activation::Silu,
            ("softplus", []) => Activation::Softplus,
            ("tanh", []) => Activation::Tanh,
            ("erf", []) => Activation::Erf,
            ("abs", []) => Activation::Abs {
                slope: 0.0,
                shift: 1.0,
            },
            ("abs", &[slope, shift]) => Activation::Abs { slope, shift },
            ("hermite-2" | "he2", []) => Activation::HERMITE_2,
            ("hermite", c) if (1..=HERMITE_DEGREE + 1).contains(&c.len()) => {
                let mut coefficients = [0.0; HERMITE_DEGREE + 1];
                coefficients[..c.len()].copy_from_slice(c);
                Activation::Hermite { coefficients }
            }
            _ => return Err(fail()),
        })
    }
}

impl Serialize for Activation {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Activation {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Activation; 12] = [
        Activation::Linear,
        Activation::Relu,
        Activation::CentredRelu,
        Activation::LeakyRelu { slope: 0.1 },
        Activation::Gelu,
        Activation::Silu,
        Activation::Softplus,
        Activation::Tanh,
        Activation::Erf,
        Activation::Abs {
            slope: 0.3,
            shift: 1.0,
        },
        Activation::HERMITE_2,
        Activation::Hermite {
            coefficients: [0.1, 0.5, -0.3, 0.2, 0.7],
        },
    ];

    #[test]
    fn texts_read_back() {
        for a in ALL {
            assert_eq!(a.to_string().parse(), Ok(a));
            let json = serde_json::to_string(&a).unwrap();
            assert_eq!(serde_json::from_str::<Activation>(&json).unwrap(), a);
        }
        assert_eq!(
            "abs".parse(),
            Ok(Activation::Abs {
                slope: 0.0,
                shift: 1.0
            })
        );
        for bad in [
            "",
            "rel",
            "relu:1",
            "abs:1",
            "abs:x,1",
            "abs:inf,0",
            "hermite:",
        ] {
            assert!(bad.parse::<Activation>().is_err(), "{bad}");
        }
    }

    #[test]
    fn derivatives_are_those_of_the_values() {
        let h = 1e-5;
        for a in ALL {
            for x in [-2.3, -0.7, 0.4, 1.9] {
                let slope = (a.value(x + h) - a.value(x - h)) / (2.0 * h);
                assert!((slope - a.derivative(x)).abs() < 1e-8, "{a} at {x}");
            }
        }
    }

    #[test]
    fn known_values() {
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} {b}");
        close(Activation::Relu.derivative(0.0), 0.0);
        close(Activation::Gelu.value(1.0), 0.841_344_746_068_542_9);
        close(Activation::Softplus.value(0.0), 2f64.ln());
        close(Activation::HERMITE_2.value(2.0), 3.0 / 2f64.sqrt());
        let twice_relu = Activation::Abs {
            slope: 1.0,
            shift: 0.0,
        };
        close(twice_relu.value(-0.3), 0.0);
        close(twice_relu.value(0.3), 0.6);
        close(Activation::Softplus.value(-800.0), 0.0);
        close(Activation::Silu.value(-800.0), 0.0);
    }
}
