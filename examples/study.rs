//! Random configurations: measured noise terms against the budget.
use recall_capacity::descent::early::{NoiseParts, Training, Trial, run};
use recall_capacity::embedding::Embeddings;
use recall_capacity::rng::{Purpose, StreamKey};
use recall_capacity::task::{Batch, Permutation};
use recall_theory::*;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let trials: u64 = args[1].parse().unwrap();
    let configs: u64 = args[2].parse().unwrap();
    let mode = args.get(3).map(String::as_str).unwrap_or("rand");
    let salt = args.get(4).cloned().unwrap_or_default();
    let mut ratios: Vec<Vec<f64>> = vec![vec![]; 11];
    for c in 0..configs {
        let mut rng = StreamKey::from_text(&format!("study{salt}{c}")).stream(Purpose::Train);
        use rand_chacha::rand_core::Rng;
        let mut u = || f64::from(rng.next_u32()) / 4294967296.0;
        let mut log = |a: f64, b: f64| (a.ln() + u() * (b / a).ln()).exp();
        let v = log(200.0, 1500.0) as usize;
        let d = log(20.0, 200.0) as usize;
        let l = log(6.0, 250.0) as usize;
        let n = log(100.0, 20000.0) as u64;
        let mut s = Setting::new(v, d, l, n);
        if let Ok(x) = std::env::var("CFG") {
            let y: Vec<usize> = x.split(",").map(|a| a.parse().unwrap()).collect();
            s = Setting::new(y[0], y[1], y[2], y[3] as u64);
        }
        let (v, d, l, n) = (s.vocab, s.dim_in, s.len, s.samples.as_f64() as u64);
        let _ = d;
        match mode {
            "bal" => s.labels = Labels::Balanced,
            "oi" => s = s.with_embeddings(Embedding::Orthonormal, Embedding::Gaussian),
            "oo" => s = s.with_embeddings(Embedding::Gaussian, Embedding::Orthonormal),
            "orth" => s = s.with_embeddings(Embedding::Orthonormal, Embedding::Orthonormal),
            "sphere" => s = s.with_embeddings(Embedding::Sphere, Embedding::Sphere),
            "vt" => s.trigger_in_values = true,
            "inf" => s.samples = Samples::Infinite,
            _ => {}
        }
        let b = attention::budget(&s);
        let mut sum = [0.0; 9];
        let (mut t1, mut t2, mut sp, mut fl) = (0.0, 0.0, 0.0, 0.0);
        let mut acc = [0.0; 5];
        for seed in 0..trials {
            let key = StreamKey::from_text(&format!("{s:?} {seed}"));
            let emb = Embeddings::<f32>::draw(&s, &key);
            let pi = Permutation::random(v, &mut key.stream(Purpose::Permutation));
            let train = Batch::draw(
                &mut key.stream(Purpose::Train),
                &pi,
                l,
                n as usize,
                s.labels,
            );
            let test = Batch::draw(&mut key.stream(Purpose::Test), &pi, l, 2048, Labels::Iid);
            let training = if s.samples == Samples::Infinite {
                Training::Population
            } else {
                Training::Batch(&train)
            };
            let (o, _) = run(&Trial {
                setting: &s,
                embeddings: &emb,
                permutation: &pi,
                training,
                test: &test,
                decompose: true,
            });
            let parts = o.noise.unwrap().values();
            for i in 0..9 {
                sum[i] += parts[i] / trials as f64;
            }
            t1 += o.signal;
            t2 += o.signal * o.signal;
            sp += o.spread_squared / trials as f64;
            fl += o.interference_squared / trials as f64;
            acc[0] += o.train_attention.map_or(f64::NAN, |c| c.rate()) / trials as f64;
            acc[1] += o.attention.rate() / trials as f64;
            acc[2] += o.recall.rate() / trials as f64;
            acc[3] += o.accuracy.rate() / trials as f64;
            acc[4] += o.one_step.rate() / trials as f64;
        }
        let k = trials as f64;
        let (mean, var) = (t1 / k, (t2 / k - (t1 / k).powi(2)) * k / (k - 1.0));
        print!(
            "V{v:5} d{d:4} L{l:4} N{n:6} T {:.3}/{:.3} rv {:.3}/{:.3} |",
            mean,
            b.signal,
            var / mean / mean,
            b.signal_variance / b.signal.powi(2)
        );
        let total: f64 = b.variance.iter().sum();
        for i in 0..9 {
            let r = (sum[i] / b.variance[i]).sqrt();
            let share = b.variance[i] / total;
            print!(
                " {:.2}{}",
                r,
                if share > 0.2 {
                    "*"
                } else if share > 0.02 {
                    "'"
                } else {
                    ""
                }
            );
            if r.is_finite() {
                ratios[i].push(r.ln());
            }
        }
        let r = (sp / total).sqrt();
        let f = (fl / b.interference).sqrt();
        ratios[9].push(r.ln());
        ratios[10].push(f.ln());
        println!(
            " | spread {r:.3} interf {f:.3} | acc tr {:.3} at {:.3} rec {:.3} e2e {:.3} one {:.3}",
            acc[0], acc[1], acc[2], acc[3], acc[4]
        );
    }
    for (name, r) in NoiseParts::NAMES
        .iter()
        .chain(["spread", "interference"].iter())
        .zip(&mut ratios)
    {
        r.sort_by(f64::total_cmp);
        let m = r.len();
        if m == 0 {
            continue;
        }
        println!(
            "{name:16} median {:.3} 16% {:.3} 84% {:.3} min {:.3} max {:.3}",
            r[m / 2].exp(),
            r[m * 16 / 100].exp(),
            r[m * 84 / 100].exp(),
            r[0].exp(),
            r[m - 1].exp()
        );
    }
}
