//! The worked position in FORMAT.md, recomputed from its own numbers.

use super::*;
use logitcask_core::math::log_sum_exp;
use logitcask_core::quadrature::gauss;
use logitcask_core::tail::ATOM_STEP;

/// The rows of the table under `## A worked position` that no comparison has taken yet.
struct Worked(Vec<(String, String)>);

impl Worked {
    fn read() -> Self {
        let text = include_str!("../../FORMAT.md");
        let (_, section) = text.split_once("## A worked position\n").unwrap();
        let (section, _) = section.split_once("\n## ").unwrap();
        let cells = section.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "));
        Self(cells.skip(1).map(|(name, numbers)| (name.to_owned(), numbers.to_owned())).collect())
    }

    /// Takes the numbers of the row whose name begins with `name`.
    fn take(&mut self, name: &str) -> String {
        let place = self.0.iter().position(|(there, _)| there.starts_with(name));
        self.0.remove(place.unwrap_or_else(|| panic!("FORMAT.md has no row `{name}`"))).1
    }

    fn numbers<T: std::str::FromStr<Err: std::fmt::Debug>>(&mut self, name: &str) -> Vec<T> {
        self.take(name).split(", ").map(|number| number.parse().unwrap()).collect()
    }

    /// Compares the row with these numbers in as many decimals.
    fn expect(&mut self, name: &str, decimals: usize, numbers: &[f64]) {
        let numbers: Vec<String> = numbers.iter().map(|number| format!("{number:.decimals$}")).collect();
        assert_eq!(self.take(name), numbers.join(", "), "{name}");
    }

    /// Compares the row with numbers that it states in full.
    fn expect_exactly<T: ToString>(&mut self, name: &str, numbers: &[T]) {
        let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        assert_eq!(self.take(name), numbers.join(", "), "{name}");
    }
}

#[test]
fn the_worked_position_in_format_md_is_what_a_writer_stores() {
    let mut worked = Worked::read();
    let logits: Vec<f32> = worked.numbers("raw logits of the classes 0 to 7");
    let label = worked.numbers::<u32>("label")[0];
    let rule = TailRule { lowest_temperature: 0.75, highest_temperature: 10.0, atoms: 2 };
    let keep = Truncation { tail: Some(rule), ..keep(Selection::TopK { k: 3 }) };
    let (mut rows, mut errors) = (SoftRows::new(&keep), RowErrors::new(&keep));
    select_reference(&logits, label, &keep, 0.0, &mut rows, &mut errors);
    rows.check(&keep, &[label], logits.len() as u32).unwrap();

    let raw: Vec<f64> = logits.iter().copied().map(f64::from).collect();
    let log_z = log_sum_exp(&raw);
    let exact: Vec<f64> = raw.iter().map(|z| z - log_z).collect();
    worked.expect("log-partition", 12, &[log_z]);
    worked.expect("log-probabilities", 6, &exact);
    worked.expect_exactly("`log_z`", &rows.log_z);
    // Eight decimals state an f16 of this size in full.
    let halves = |values: &[f32]| values.iter().copied().map(f64::from).collect::<Vec<_>>();
    worked.expect("`gold_log_probs`", 8, &halves(&rows.gold_log_probs));
    worked.expect_exactly("`gold_ranks`", &rows.gold_ranks);
    worked.expect_exactly("`topk_ids`", &rows.class_ids);
    worked.expect("`topk_log_probs`", 8, &halves(&rows.log_probs));

    let (b_0, d) = rule.knots();
    worked.expect_exactly("b_0", &[b_0]);
    worked.expect("d", 6, &[d]);
    worked.expect("b_r", 6, &[rule.reference()]);
    let tail: Vec<f64> = [1, 3, 5, 6, 7].map(|class| exact[class]).to_vec();
    let of = |b: f64| tail.iter().map(|z| (b * z).exp()).collect::<Vec<_>>();
    let (points, weights): (Vec<f64>, Vec<f64>) = gauss(&of(d), &of(b_0), 2).into_iter().unzip();
    worked.expect("points u of the quadrature over the classes 1, 3, 5, 6 and 7", 6, &points);
    worked.expect("their weights g", 6, &weights);
    worked.expect_exactly("`tail_logits`", &rows.tail.iter().map(|atom| atom.log_prob).collect::<Vec<_>>());
    worked.expect_exactly("`tail_log_weights`", &rows.tail.iter().map(|atom| atom.log_weight).collect::<Vec<_>>());

    for temperature in [2.0, 0.75] {
        // As FORMAT.md says it, not as the reader computes it.
        let b = 1.0 / temperature;
        let kept = rows.log_probs.iter().map(|lp| (b * f64::from(*lp)).exp());
        let atom = |atom: &logitcask_core::TailAtom| {
            let [x, w] = [atom.log_prob, atom.log_weight].map(|units| f64::from(units) * ATOM_STEP);
            (w + (b - rule.reference()) * x).exp()
        };
        let stored = b * f64::from(rows.log_z[0]) + kept.chain(rows.tail.iter().map(atom)).sum::<f64>().ln();
        assert!((stored - rows.iter().next().unwrap().log_z_at(temperature)).abs() < 1e-12);
        worked.expect(&format!("log Z at T = {temperature} from the stored numbers"), 6, &[stored]);
        let all = log_sum_exp(&raw.iter().map(|z| b * z).collect::<Vec<_>>());
        worked.expect(&format!("log Z at T = {temperature} of all logits"), 6, &[all]);
    }
    assert_eq!(worked.0, [], "rows that nothing recomputes");
}
