//! Exact descent against reference cases, finite differences and symmetries.
//! (bootstrap)
use recall_capacity::replay::{Case, compare, replay, replay_as};
#[test]
fn show() {
    for n in ["c2_attn_vt_mid", "c6_tiny_order_one"] {
        let t = std::fs::read_to_string(format!("tests/data/oracle/{n}.full.json")).unwrap();
        let c = Case::from_json(&t).unwrap();
        let o = replay(&c).unwrap();
        let o32 = replay_as::<f32>(&c).unwrap();
        let r = c.reference.as_ref().unwrap();
        println!("{n}");
        for (a, b) in compare(&o, r)
            .unwrap()
            .iter()
            .zip(compare(&o32, r).unwrap())
        {
            println!(
                "{:20} {:?} {:.2e}  f32 {:.2e}",
                a.name, a.measure, a.value, b.value
            );
        }
    }
}
