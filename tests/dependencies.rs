//! The dependencies without the network and without cargo-deny, and the list of `unsafe`.
//!
//! `deny.toml` holds the allowed licences and registries; the table of `docs/dependencies.md` holds
//! every package of `Cargo.lock`, also those of other platforms, whose manifests a machine may not
//! have. The tests hold the three together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Members of this workspace: the only packages without a source.
const MEMBERS: [&str; 2] = ["recall-capacity", "recall-theory"];

/// Files that may lift the prohibition of `unsafe`, with the number of `unsafe` in each;
/// `docs/dependencies.md` justifies them one by one.
const UNSAFE: [(&str, usize); 3] = [
    ("src/keystream.rs", 2),
    ("src/linalg.rs", 5),
    ("src/simd.rs", 2),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn toml_file(name: &str) -> toml::Table {
    text(name).parse().unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// A package of `Cargo.lock`: name, version, source, checksum.
struct Locked {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<String>,
}

fn locked() -> Vec<Locked> {
    let lock = toml_file("Cargo.lock");
    let field = |p: &toml::Value, key: &str| p.get(key).and_then(|v| v.as_str()).map(str::to_owned);
    lock["package"]
        .as_array()
        .expect("packages")
        .iter()
        .map(|p| Locked {
            name: field(p, "name").expect("a name"),
            version: field(p, "version").expect("a version"),
            source: field(p, "source"),
            checksum: field(p, "checksum"),
        })
        .collect()
}

/// Rows of the first table of `docs/dependencies.md` whose header starts with `header`.
fn table(header: &str) -> Vec<Vec<String>> {
    let doc = text("docs/dependencies.md");
    let rows: Vec<Vec<String>> = doc
        .lines()
        .skip_while(|l| !l.starts_with(&format!("| {header} |")))
        .skip(2)
        .take_while(|l| l.starts_with('|'))
        .map(|l| {
            let cells = l.trim_matches('|').split('|');
            cells.map(|c| c.trim().replace('`', "")).collect()
        })
        .collect();
    assert!(
        !rows.is_empty(),
        "docs/dependencies.md has no table of {header}"
    );
    rows
}

fn allowed_licences() -> BTreeSet<String> {
    let deny = toml_file("deny.toml");
    let list = deny["licenses"]["allow"].as_array().expect("a list");
    list.iter()
        .map(|l| l.as_str().expect("a licence").to_owned())
        .collect()
}

/// Whether a licence expression (SPDX; `/` is the old spelling of `OR`) can be met with the allowed
/// licences. `AND` binds closer than `OR`; a licence with an exception is a licence of its own.
fn satisfied(expression: &str, allowed: &BTreeSet<String>) -> Result<bool, String> {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let met = any_of(&words, &mut at, allowed)?;
    if at == words.len() {
        Ok(met)
    } else {
        Err(format!("{expression}: cannot read it from word {at}"))
    }
}

fn any_of(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> Result<bool, String> {
    let mut met = all_of(words, at, allowed)?;
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        met |= all_of(words, at, allowed)?;
    }
    Ok(met)
}

fn all_of(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> Result<bool, String> {
    let mut met = one(words, at, allowed)?;
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(words, at, allowed)?;
    }
    Ok(met)
}

fn one(words: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> Result<bool, String> {
    let word = *words.get(*at).ok_or("the expression ends early")?;
    *at += 1;
    if word == "(" {
        let met = any_of(words, at, allowed)?;
        if words.get(*at) != Some(&")") {
            return Err("a bracket is not closed".into());
        }
        *at += 1;
        return Ok(met);
    }
    if ["OR", "AND", "WITH", ")"].contains(&word) {
        return Err(format!("{word} where a licence belongs"));
    }
    let mut name = word.to_owned();
    if words.get(*at) == Some(&"WITH") {
        let exception = words.get(*at + 1).ok_or("the exception is missing")?;
        name = format!("{name} WITH {exception}");
        *at += 2;
    }
    Ok(allowed.contains(&name))
}

#[test]
fn licence_expressions_are_read_as_spdx_has_them() {
    let allowed: BTreeSet<String> = ["MIT", "Zlib", "Unicode-3.0"].map(str::to_owned).into();
    for (expression, expected) in [
        ("MIT", true),
        ("GPL-3.0-only", false),
        ("MIT OR GPL-3.0-only", true),
        ("GPL-3.0-only/MIT", true),
        ("MIT AND GPL-3.0-only", false),
        ("MIT AND Zlib", true),
        ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
        ("(MIT OR Apache-2.0) AND ISC", false),
        ("MIT OR GPL-3.0-only AND ISC", true),
        ("MIT WITH some-exception", false),
        ("LGPL-2.1-or-later", false),
    ] {
        assert_eq!(
            satisfied(expression, &allowed),
            Ok(expected),
            "{expression}"
        );
    }
    for broken in ["", "MIT OR", "(MIT", "MIT Zlib", "MIT)", "AND MIT"] {
        assert!(satisfied(broken, &allowed).is_err(), "{broken}");
    }
}

#[test]
fn every_package_comes_from_the_registry_with_a_checksum() {
    let packages = locked();
    assert!(packages.len() > MEMBERS.len());
    let mut members = Vec::new();
    for p in &packages {
        let Locked { name, version, .. } = p;
        let Some(source) = &p.source else {
            members.push(name.as_str());
            continue;
        };
        assert_eq!(source, REGISTRY, "{name} {version} is from elsewhere");
        let checksum = p.checksum.as_deref().unwrap_or_default();
        assert!(
            checksum.len() == 64 && checksum.bytes().all(|b| b.is_ascii_hexdigit()),
            "{name} {version}: checksum \"{checksum}\" is not a SHA-256"
        );
    }
    assert_eq!(members, MEMBERS, "packages without a source");
    let deny = toml_file("deny.toml");
    let registries = deny["sources"]["allow-registry"]
        .as_array()
        .expect("a list");
    let registries: Vec<_> = registries.iter().filter_map(|r| r.as_str()).collect();
    assert_eq!(registries, [REGISTRY.trim_start_matches("registry+")]);
    assert_eq!(deny["sources"]["unknown-git"].as_str(), Some("deny"));
}

#[test]
fn the_table_lists_the_packages_and_every_licence_is_allowed() {
    let allowed = allowed_licences();
    let mut listed = BTreeMap::new();
    for row in table("package") {
        let [name, version, licence] = &row[..] else {
            panic!("{row:?} is not package, version, licence")
        };
        assert_eq!(
            satisfied(licence, &allowed),
            Ok(true),
            "{name} {version}: \"{licence}\" is not met by the licences that deny.toml allows"
        );
        listed.insert((name.clone(), version.clone()), licence.clone());
    }
    let packages: BTreeSet<_> = locked()
        .into_iter()
        .filter(|p| p.source.is_some())
        .map(|p| (p.name, p.version))
        .collect();
    let names: BTreeSet<_> = listed.keys().cloned().collect();
    let missing: Vec<_> = packages.difference(&names).collect();
    let extra: Vec<_> = names.difference(&packages).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "docs/dependencies.md against Cargo.lock: missing {missing:?}, not locked {extra:?}"
    );

    // What the manifests say, for the packages of this platform.
    for (key, licence) in stated_licences() {
        if let Some(written) = listed.get(&key) {
            assert_eq!(
                &licence, written,
                "{key:?}: licence in docs/dependencies.md"
            );
        } else {
            assert!(MEMBERS.contains(&key.0.as_str()), "{key:?} is not listed");
            assert_eq!(licence, "MIT");
        }
    }
}

/// Licences by name and version as `cargo metadata` reads them from the manifests. It is told this
/// platform, since the packages of others need not be on this machine.
fn stated_licences() -> BTreeMap<(String, String), String> {
    let cargo = |arguments: &[&str], program: &str| {
        let output = Command::new(program)
            .args(arguments)
            .current_dir(root())
            .output()
            .unwrap_or_else(|e| panic!("{program}: {e}"));
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {errors}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let cargo_path = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let version = cargo(&["-vV"], &cargo_path);
    let host = version
        .lines()
        .find_map(|l| l.strip_prefix("host: "))
        .expect("cargo names its host");
    let metadata = cargo(
        &[
            "metadata",
            "--offline",
            "--locked",
            "--format-version",
            "1",
            "--filter-platform",
            host,
        ],
        &cargo_path,
    );
    let metadata: Value = serde_json::from_str(&metadata).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 50, "{} packages", packages.len());
    packages
        .iter()
        .map(|p| {
            let field = |key: &str| p[key].as_str().map(str::to_owned);
            let name = field("name").expect("a name");
            let licence = field("license").unwrap_or_else(|| panic!("{name} states no licence"));
            ((name, field("version").expect("a version")), licence)
        })
        .collect()
}

#[test]
fn duplicates_are_those_that_are_listed() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for p in locked() {
        versions.entry(p.name).or_default().insert(p.version);
    }
    versions.retain(|_, v| v.len() > 1);
    let listed: BTreeMap<String, BTreeSet<String>> = table("duplicate")
        .into_iter()
        .map(|row| {
            let versions = row[1].split(", ").map(str::to_owned).collect();
            (row[0].clone(), versions)
        })
        .collect();
    assert_eq!(versions, listed, "Cargo.lock against docs/dependencies.md");

    let deny = toml_file("deny.toml");
    assert_eq!(deny["bans"]["multiple-versions"].as_str(), Some("deny"));
    let skipped = deny["bans"]["skip"].as_array().expect("a list");
    for entry in skipped {
        let spec = entry["crate"].as_str().expect("name@version");
        let (name, version) = spec.split_once('@').expect("name@version");
        assert!(
            listed.get(name).is_some_and(|v| v.contains(version)),
            "deny.toml skips {spec}, which is no duplicate"
        );
    }
}

/// All Rust sources of the workspace, relative to its root.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = ["src", "theory", "tests", "benches", "examples"]
        .map(|d| root().join(d))
        .into();
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() && !path.ends_with("target") {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The code of a source without line comments.
fn code(source: &str) -> String {
    let lines = source.lines().map(|l| l.split("//").next().unwrap_or(""));
    lines.collect::<Vec<_>>().join("\n")
}

fn count(haystack: &str, needle: &str) -> usize {
    haystack.matches(needle).count()
}

#[test]
fn every_unsafe_is_listed() {
    // Assembled, so that this file does not contain what it looks for.
    let lint = concat!("unsafe", "_code");
    let [block, function, implementation, external] =
        ["{", "fn", "impl", "extern"].map(|what| format!("{} {what}", "unsafe"));
    let mut found = Vec::new();
    let sources = sources();
    assert!(sources.len() > 50);
    for path in &sources {
        let code = code(&std::fs::read_to_string(path).expect("a source"));
        let name = path.strip_prefix(root()).expect("inside");
        let name = name.to_str().expect("UTF-8").replace('\\', "/");
        let listed = UNSAFE.iter().any(|(file, _)| *file == name);
        assert!(
            listed || !code.contains(lint),
            "{name} mentions {lint}: not listed in docs/dependencies.md"
        );
        let uses: usize = [&block, &function, &implementation, &external]
            .map(|needle| count(&code, needle))
            .iter()
            .sum();
        if listed || uses > 0 {
            found.push((name, uses));
        }
    }
    let expected: Vec<(String, usize)> = UNSAFE.map(|(f, n)| (f.to_owned(), n)).into();
    assert_eq!(found, expected, "files and number of unsafe in each");
    let rows = table("unsafe");
    let written: Vec<(String, usize)> = UNSAFE
        .iter()
        .map(|(file, _)| {
            let here = rows.iter().filter(|r| r[0].starts_with(file));
            ((*file).to_owned(), here.count())
        })
        .collect();
    assert_eq!(written, expected, "rows of docs/dependencies.md");
    assert_eq!(rows.len(), UNSAFE.iter().map(|(_, n)| n).sum::<usize>());

    for manifest in ["Cargo.toml", "theory/Cargo.toml"] {
        let manifest_table = toml_file(manifest);
        assert_eq!(
            manifest_table["lints"]["workspace"].as_bool(),
            Some(true),
            "{manifest} takes the lints of the workspace"
        );
    }
    let workspace = toml_file("Cargo.toml");
    let level = &workspace["workspace"]["lints"]["rust"][lint];
    assert_eq!(level.as_str(), Some("deny"));
}
