//! The README says what the repository holds.

use std::path::Path;

use recall_capacity::claims;
use recall_capacity::spec::load_directory;

#[test]
fn the_table_of_claims_is_the_registry() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let experiments = load_directory(&root.join("experiments")).unwrap();
    let between = readme
        .split_once("<!-- claims: begin -->\n")
        .and_then(|(_, rest)| rest.split_once("<!-- claims: end -->"))
        .expect("the README has a place for the claims")
        .0;
    assert_eq!(
        between.trim(),
        claims::table(&experiments, "theory/src").trim(),
        "write the output of `recall claims` into the README"
    );
}

#[test]
fn every_experiment_says_why_its_margin_is_what_it_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for e in load_directory(&root.join("experiments")).unwrap() {
        assert!(!e.margin_reason.trim().is_empty(), "{}", e.id);
    }
}
