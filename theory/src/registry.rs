//! stub
pub struct Claim {
    pub id: &'static str,
    pub statement: &'static str,
    pub formula_ids: &'static [&'static str],
}
pub struct Formula {
    pub id: &'static str,
    pub title: &'static str,
    pub latex: &'static str,
    pub regime: &'static str,
    pub note: &'static str,
}
pub fn claims() -> &'static [Claim] {
    &[
        Claim {
            id: "attention-samples-balanced",
            statement: "s",
            formula_ids: &[],
        },
        Claim {
            id: "attention-samples-orthonormal-output",
            statement: "s",
            formula_ids: &[],
        },
        Claim {
            id: "attention-samples-natural",
            statement: "s",
            formula_ids: &[],
        },
        Claim {
            id: "recall-dimension",
            statement: "s",
            formula_ids: &[],
        },
        Claim {
            id: "recall-samples",
            statement: "s",
            formula_ids: &[],
        },
        Claim {
            id: "accuracy-curves",
            statement: "s",
            formula_ids: &[],
        },
        Claim {
            id: "phase-diagram",
            statement: "s",
            formula_ids: &[],
        },
        Claim {
            id: "first-gradient-bound",
            statement: "s",
            formula_ids: &[],
        },
        Claim {
            id: "one-step-formula",
            statement: "s",
            formula_ids: &[],
        },
        Claim {
            id: "contrast-orthonormal",
            statement: "s",
            formula_ids: &[],
        },
        Claim {
            id: "contrast-population",
            statement: "s",
            formula_ids: &[],
        },
    ]
}
pub fn formula(_id: &str) -> Option<&'static Formula> {
    None
}
