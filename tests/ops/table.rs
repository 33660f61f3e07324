//! `docs/ops.md`: what every op says of itself, and the worst errors of its derivatives over the
//! cases. With `GRADTAPE_UPDATE=1` in the environment the test writes the file, else it compares.

use super::{TOLERANCE, TOLERANCE_FORWARD, cases, draw, op_names, sources};
use gradtape::check::{Check, Forward, OpReport, Report, Reverse};
use gradtape::tape::op::ScalarOp;
use gradtape::{Combine, Philox, RowRule, Tensor};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/ops.md");

/// An op that only derivatives record is checked on its own in this many cases.
const SAMPLES: usize = 12;

/// Other CPUs round otherwise: the printed errors are this much above those measured.
const MARGIN: f64 = 4.0;

/// Their rules take a value together with what it is made of, so that alone they do not hold: a
/// matrix with its factors, states with all that a recurrent cell keeps. The errors are those of
/// the cases.
const COUPLED: [&str; 12] = [
    "det",
    "inverse",
    "log_det",
    "pinv",
    "solve",
    "solve_spd",
    "gru_gradient",
    "gru_states",
    "lstm_gradient",
    "lstm_states",
    "rnn_gradient",
    "rnn_states",
];

/// Ops in cases where their own derivatives do not exist, though the case's do: singular values
/// that are equal, scores of −∞, a branch that is not taken.
const SINGULAR: [(&str, &str); 3] =
    [("pinv of lower rank", "svd"), ("attention causal", "softmax"), ("cond nested", "log")];

const HEAD: &str = "\
# Ops

Written by a test from the table of ops and its cases (`tests/ops/table.rs`); not by hand:
`GRADTAPE_UPDATE=1 cargo test --test ops b1_docs_list_every_op`.

An op's inputs are a, b, c, …; where a cell says one thing, it holds for all of them. Things that
depend on the op's parameters, such as its axes, have a slash between them.

- **VJP**: *rule*, the reverse rule, written in ops; *zero*, wherever the derivative exists, or the
  input is of indices or read for its shape only.
- **JVP**: *row*, the partials of the row that the VJP is made of; *linear*, the op itself on the
  tangent; *rule*, one of its own; *transposed*, the VJP's transpose; *zero*.
- **2nd**: whether the derivative differentiates again, in both modes.
- **Batch rule**: what becomes of the value when axis 0 of the inputs named is cut into shards:
  *split* like them; *sum*, *product*, *max*, *min* of the shards' values; it *mixes* rows, so that
  shards cannot compute it. Inputs are split together where their axes 0 have the same extent.
- **Errors**: the worst over all cases in f64, at random inputs of ranks 0 to 4, four times
  that, rounded up to a power of ten: of the VJP, the JVP and the second derivative against central
  differences, and of forward against reverse mode (JVP against VJP, and H·u in both modes). Those
  of central differences are mostly their own.

Methods not listed record these ops: `mean` is `sum` and `div`. Not listed either: leaves, writes to
variables, and `target`s of losses (a check of their values, under the loss's name).
";

#[derive(Default)]
struct Row {
    family: String,
    samples: usize,
    reverse: Vec<BTreeSet<&'static str>>,
    forward: Vec<BTreeSet<&'static str>>,
    /// By the letters of the inputs that are split.
    batch: BTreeMap<String, BTreeSet<&'static str>>,
    errors: Option<[f64; 4]>,
}

impl Row {
    fn add(&mut self, report: &OpReport) {
        let reverse = report.reverse.iter().map(|r| match r {
            Reverse::Rule => "rule",
            Reverse::Zero => "zero",
            Reverse::Missing => "none",
        });
        let forward = report.forward.iter().map(|f| match f {
            Forward::Linear => "linear",
            Forward::Rule if report.family == "Scalar" => "row",
            Forward::Rule => "rule",
            Forward::Transpose => "transposed",
            Forward::Zero => "zero",
            Forward::Missing => "none",
        });
        self.family = report.doc.to_string();
        self.samples += 1;
        insert(&mut self.reverse, reverse);
        insert(&mut self.forward, forward);
        for (split, rule) in &report.rows {
            self.batch.entry(letters(split)).or_default().insert(match rule {
                RowRule::Split => "split",
                RowRule::Partial(Combine::Sum) => "sum",
                RowRule::Partial(Combine::Prod) => "product",
                RowRule::Partial(Combine::Max) => "max",
                RowRule::Partial(Combine::Min) => "min",
                RowRule::Partial(Combine::LogAddExp) => "log-add-exp",
                RowRule::Mixes => "mixes",
            });
        }
    }

    fn worse(&mut self, report: &Report) {
        let Report { first, tangent, second, forward, .. } = *report;
        let worst = self.errors.get_or_insert([0.0; 4]);
        let errors = worst.iter_mut().zip([first, tangent, second, forward]);
        errors.for_each(|(worst, error)| *worst = worst.max(error));
    }

    /// The row in Markdown, without its errors.
    fn text(&self, name: &str, value: &str) -> String {
        let second = match self.reverse.iter().any(|of| of.contains("rule")) {
            true => "yes",
            false => "–",
        };
        let by_input = |of: &[BTreeSet<&'static str>]| cell(('a'..).map(String::from).zip(of));
        let (reverse, forward) = (by_input(&self.reverse), by_input(&self.forward));
        let batch = cell(self.batch.iter().map(|(who, of)| (who.clone(), of)));
        format!("| `{name}` | {value} | {reverse} | {forward} | {second} | {batch} |")
    }
}

fn insert(
    sets: &mut Vec<BTreeSet<&'static str>>,
    words: impl ExactSizeIterator<Item = &'static str>,
) {
    sets.resize_with(sets.len().max(words.len()), BTreeSet::new);
    sets.iter_mut().zip(words).for_each(|(set, word)| _ = set.insert(word));
}

/// The names of the inputs that are split.
fn letters(split: &[bool]) -> String {
    let names = split.iter().zip('a'..).filter(|(split, _)| **split);
    names.map(|(_, name)| name.to_string()).collect::<Vec<_>>().join(" ")
}

/// One word if all inputs have it, else each with its letters.
fn cell<'a>(of: impl Iterator<Item = (String, &'a BTreeSet<&'static str>)>) -> String {
    let words = |set: &BTreeSet<&'static str>| set.iter().copied().collect::<Vec<_>>().join(" / ");
    let of: Vec<_> = of.map(|(who, set)| (who, words(set))).collect();
    match &of[..] {
        [] => "–".to_string(),
        [(_, first), rest @ ..] if rest.iter().all(|(_, words)| words == first) => first.clone(),
        _ => of.iter().map(|(who, words)| format!("{who}: {words}")).collect::<Vec<_>>().join("; "),
    }
}

/// The first sentence of the documentation of the method that has the op's name, without links.
fn of_method(name: &str, sources: &[String]) -> Option<String> {
    let declared = [format!("    pub fn {name}("), format!("    {name} {name}_axes ")];
    sources.iter().find_map(|source| {
        let lines: Vec<&str> = source.lines().collect();
        let is_declared = |line: &&str| declared.iter().any(|start| line.starts_with(start));
        let ends = (0..lines.len()).filter(|&i| is_declared(&lines[i]));
        ends.filter_map(|end| {
            let is_above = |line: &&&str| line.starts_with("    ///") || line.starts_with("    #[");
            let above = lines[..end].iter().rev().take_while(is_above).count();
            let docs = lines[end - above..end].iter().filter_map(|l| l.strip_prefix("    ///"));
            let first: Vec<&str> =
                docs.map(str::trim).take_while(|line| !line.is_empty()).collect();
            Some(sentence(&first.join(" "))).filter(|text| !text.contains("; see "))
        })
        .find(|text| !text.is_empty())
    })
}

fn sentence(text: &str) -> String {
    let end = text.match_indices(". ").map(|(i, _)| i).find(|&i| !text[..i].ends_with(" al"));
    let mut text = text[..end.unwrap_or(text.len())].trim().trim_end_matches('.').to_string();
    // [label](target) is the label; [`Expr::name`] is the name.
    while let Some((before, (label, after))) =
        text.split_once('[').and_then(|(before, rest)| Some((before, rest.split_once("](")?)))
        && !label.contains(']')
    {
        let after = after.split_once(')').map_or("", |(_, after)| after);
        text = format!("{before}{label}{after}");
    }
    text.replace("[`Expr::", "`").replace("[`", "`").replace("`]", "`").replace('|', "\\|")
}

/// The next power of ten, which no CPU should exceed.
fn bound(error: f64) -> f64 {
    10f64.powf((error * MARGIN).max(1e-15).log10().ceil())
}

/// The rows of all ops.
fn rows() -> BTreeMap<String, Row> {
    let names = op_names();
    let (mut rows, mut wrong) = (BTreeMap::<String, Row>::new(), Vec::new());
    let check = Check { tolerance: Some(TOLERANCE), ..Check::default() };
    for (i, case) in (0u64..).zip(cases::all()) {
        let (mut rng, check) = (Philox::new(i, 1), Check { seed: i, ..check });
        let inputs: Vec<Tensor> =
            case.inputs.iter().map(|input| draw(input, &mut rng).unwrap()).collect();
        let mut asked = BTreeSet::new();
        let wanted = |name: &str, own: bool| {
            let is_first = asked.insert(name.to_string());
            let samples = rows.get(name).map_or(0, |row| row.samples);
            names.contains(name) && (own || (is_first && samples < SAMPLES))
        };
        let mut errors_of_case = None;
        let reports = check.each_op(&case.wide, &inputs, wanted);
        let reports = reports.unwrap_or_else(|e| panic!("{}: {e}", case.name));
        for report in reports.iter().filter(|r| r.family != "Target") {
            let row = rows.entry(report.name.clone()).or_default();
            row.add(report);
            match &report.errors {
                _ if SINGULAR.contains(&(&case.name, &report.name)) => {}
                _ if COUPLED.contains(&report.name.as_str()) => {
                    let whole = || check.gradient(&case.wide, &inputs).unwrap();
                    row.worse(errors_of_case.get_or_insert_with(whole));
                }
                Ok(Some(errors)) => row.worse(errors),
                Ok(None) => {}
                Err(e) => wrong.push(format!("{}: {} on its own: {e}", case.name, report.name)),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    rows
}

#[test]
fn b1_docs_list_every_op() {
    let (rows, sources) = (rows(), sources());
    let scalar = |name: &str| ScalarOp::ALL.iter().find(|op| op.name() == name);
    let elementwise = ScalarOp::ALL.iter().map(|op| op.name());
    let others = rows.keys().map(String::as_str).filter(|name| scalar(name).is_none());
    let mut text = HEAD.to_string();
    let mut measured = Vec::new();
    for (title, names) in
        [("Elementwise", elementwise.collect::<Vec<_>>()), ("Others", others.collect())]
    {
        let columns = "| op | value | VJP | JVP | 2nd | batch rule | VJP error | JVP error | 2nd \
                       error | forward − reverse |";
        let rules = "| --- ".repeat(10);
        write!(text, "\n## {title}\n\n{columns}\n{rules}|\n").unwrap();
        for name in names {
            let row = &rows[name];
            let value = match scalar(name) {
                Some(op) => sentence(&op.doc().replace('\n', " ")),
                None => of_method(name, &sources).unwrap_or_else(|| sentence(&row.family)),
            };
            let errors = match row.errors {
                Some(errors) => errors.map(|e| format!(" {:.0e} |", bound(e))).concat(),
                None => " – |".repeat(4),
            };
            writeln!(text, "{}{errors}", row.text(name, &value)).unwrap();
            measured.push((name.to_string(), row.errors));
        }
    }
    let missing: Vec<_> = op_names().into_iter().filter(|name| !rows.contains_key(name)).collect();
    assert!(missing.is_empty(), "ops without a row: {missing:?}");
    for (name, errors) in measured.iter().filter_map(|(name, e)| Some((name, (*e)?))) {
        assert!(errors[3] <= TOLERANCE_FORWARD, "{name}: {:.1e}", errors[3]);
    }
    if std::env::var_os("GRADTAPE_UPDATE").is_some() {
        std::fs::write(FILE, &text).unwrap();
    }
    let file = std::fs::read_to_string(FILE).unwrap().replace('\r', "");
    let update = "run GRADTAPE_UPDATE=1 cargo test --test ops b1_docs_list_every_op";
    assert_eq!(file.lines().count(), text.lines().count(), "{FILE} is stale: {update}");
    for (want, got) in text.lines().zip(file.lines()) {
        let [(want, _), (got, printed)] = [want, got].map(apart);
        assert_eq!(got, want, "{FILE} is stale: {update}");
        let name = got.split('`').nth(1).unwrap_or_default();
        let errors = measured.iter().find(|(of, _)| of == name).and_then(|(_, errors)| *errors);
        let Some(errors) = errors.filter(|_| got.starts_with("| `")) else { continue };
        let printed: Vec<f64> = printed.iter().map(|cell| cell.parse().unwrap()).collect();
        let within = errors.iter().zip(&printed).all(|(error, bound)| error <= bound);
        let measured = errors.map(|error| format!("{error:.1e}")).join(", ");
        assert!(within, "{name}: measured {measured}, listed {printed:?}: {update}");
    }
}

/// A row without its errors, and those; other lines as they are.
fn apart(line: &str) -> (String, Vec<String>) {
    if !line.starts_with("| `") {
        return (line.to_string(), Vec::new());
    }
    let cells: Vec<&str> = line.trim_end_matches(" |").split(" | ").collect();
    let (said, errors) = cells.split_at(cells.len().saturating_sub(4));
    (said.join(" | "), errors.iter().map(|cell| cell.to_string()).collect())
}
