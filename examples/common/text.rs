//! Characters of a text as indices: windows to learn from, the training of a model of them, and new
//! text in its manner.

use super::plot::{self, Series};
use super::{Options, Result, Run, Summary};
use gradtape::nn::summary;
use gradtape::{Expr, Index, IndexExpr, Philox, Session, Tensor};
use std::path::Path;

/// A text cut in two: what is learned from, and what shows how well.
pub struct Text {
    /// The characters there are, in order.
    pub characters: Vec<char>,
    train: Vec<Index>,
    test: Vec<Index>,
}

/// Two tensors `[rows, steps]`: characters, and the one after each.
pub type Window = [Tensor<Index>; 2];

impl Text {
    /// The last tenth is kept to test with.
    pub fn read(path: &Path) -> Result<Text> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut characters: Vec<char> = text.chars().collect();
        characters.sort_unstable();
        characters.dedup();
        let index = |c: char| characters.binary_search(&c).unwrap_or_default() as Index;
        let all: Vec<Index> = text.chars().map(index).collect();
        let (train, test) = all.split_at(all.len() / 10 * 9);
        Ok(Text { train: train.to_vec(), test: test.to_vec(), characters })
    }

    /// All windows to learn from, in order: each of the rows goes through its own part of the text.
    pub fn train(&self, rows: usize, steps: usize) -> Result<Vec<Window>> {
        windows(&self.train, rows, steps)
    }

    /// All windows to test with.
    pub fn test(&self, rows: usize, steps: usize) -> Result<Vec<Window>> {
        windows(&self.test, rows, steps)
    }

    /// `n` characters after `start`, each drawn by the logits that the model gives for the last ones.
    fn sample(
        &self,
        session: &mut Session<f32>,
        model: &Model,
        steps: usize,
        (start, n): (&str, usize),
        rng: &mut Philox,
    ) -> Result<String> {
        let index = |c: char| self.characters.binary_search(&c).map(|i| i as Index);
        let unknown = |_| format!("--start: expected characters of the text, got {start:?}");
        let mut seen = start
            .chars()
            .map(index)
            .collect::<std::result::Result<Vec<_>, _>>()
            .map_err(unknown)?;
        let mut text = start.to_string();
        for _ in 0..n {
            let last = &seen[seen.len().saturating_sub(steps)..];
            let mut context = last.to_vec();
            // What is after the last one is not looked at.
            context.resize(steps, 0);
            let context = Tensor::new([1, steps], context)?;
            let logits = session.run(model.logits, &[model.x.feed(&context)])?;
            let at = last.len().max(1) - 1;
            let of = |c: usize| f64::from(logits.as_slice()[at + steps * c]);
            let top = (0..self.characters.len()).map(of).fold(f64::NEG_INFINITY, f64::max);
            let chances: Vec<f64> =
                (0..self.characters.len()).map(|c| (of(c) - top).exp()).collect();
            let sum = chances.iter().sum::<f64>();
            let mut left = rng.below(1 << 32) as f64 / (1u64 << 32) as f64 * sum;
            let drawn = chances.iter().position(|chance| {
                left -= chance;
                left < 0.0
            });
            let drawn = drawn.unwrap_or(self.characters.len() - 1);
            seen.push(drawn as Index);
            text.push(self.characters[drawn]);
        }
        Ok(text)
    }
}

/// How to train.
pub struct Lesson<'a> {
    pub options: &'a Options,
    pub epochs: u32,
    /// All windows to learn from, in order, and all to test with.
    pub windows: [&'a [Window]; 2],
    /// Text that samples begin with.
    pub start: &'a str,
}

/// What was recorded of a model of the next character.
pub struct Model<'t> {
    pub x: IndexExpr<'t, f32>,
    pub y: IndexExpr<'t, f32>,
    /// The loss in training, the step that follows it, and what else that writes.
    pub loss: Expr<'t, f32>,
    pub step: Expr<'t, f32>,
    pub updates: Vec<Expr<'t, f32>>,
    /// In use: `[rows, steps, characters]`, and their mean loss.
    pub logits: Expr<'t, f32>,
    pub test_loss: Expr<'t, f32>,
}

/// Characters of a sample.
const SAMPLE: usize = 160;

impl Model<'_> {
    pub fn learn(&self, session: &mut Session<f32>, text: &Text, lesson: &Lesson) -> Result {
        let Model { x, y, loss, step, ref updates, test_loss, .. } = *self;
        let Lesson { options, windows: [train, test], start, .. } = *lesson;
        let epochs = lesson.epochs as usize;
        let mut run = Run::start(options, epochs * train.len())?;
        run.say(summary(loss.tape()))?;
        let evaluate = |session: &mut Session<f32>| -> Result<f64> {
            let mut sum = 0.0;
            for [from, to] in test {
                sum += f64::from(session.run(test_loss, &[x.feed(from), y.feed(to)])?.item()?);
            }
            Ok(sum / test.len() as f64)
        };

        let mut tested = evaluate(session)?;
        let mut test_losses = vec![(0.0, tested)];
        let mut out = Default::default();
        for epoch in 1..=epochs {
            for [from, to] in train {
                let feeds = [x.feed(from), y.feed(to)];
                session.run_into((loss, step, updates), &feeds, &mut out)?;
                run.step(out.0.item()?.into(), ("test loss", tested));
            }
            tested = evaluate(session)?;
            test_losses.push((epoch as f64, tested));
            let learned = run.mean_loss(train.len());
            run.say(format_args!("epoch {epoch:2}: loss {learned:.4}, test loss {tested:.4}"))?;
            if epoch.is_power_of_two() || epoch == epochs {
                let steps = train[0][0].shape().extents()[1];
                let mut rng = Philox::new(options.seed, epoch as u64);
                let sample = text.sample(session, self, steps, (start, SAMPLE), &mut rng)?;
                run.say(format_args!("---\n{sample}\n---"))?;
            }
        }

        let test_losses = Series { name: "test loss", points: test_losses };
        run.write("loss.svg", &plot::loss_curve(run.losses(), train.len(), &[test_losses])?)?;
        run.finish(
            session,
            &Summary {
                epochs,
                final_loss: run.mean_loss(train.len()),
                metric: "test loss",
                value: tested,
                more: &[("bits_per_character", tested / std::f64::consts::LN_2)],
            },
        )
    }
}

fn windows(text: &[Index], rows: usize, steps: usize) -> Result<Vec<Window>> {
    let each = (text.len().max(1) - 1) / rows.max(1) / steps.max(1);
    if each == 0 {
        return Err(format!("{} characters are too few for {rows} x {steps}", text.len()).into());
    }
    let window = |n: usize| -> Result<Window> {
        let at = |ahead: usize| {
            Tensor::from_fn([rows, steps], |at| text[(at[0] * each + n) * steps + at[1] + ahead])
        };
        Ok([at(0)?, at(1)?])
    };
    (0..each).map(window).collect()
}
