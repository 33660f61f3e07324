//! Characters of a text as indices: windows to learn from, and new text in its manner.

use super::Result;
use gradtape::{Fetch, Index, Philox, Placeholder, Session, Tensor};
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

    /// `n` characters after `start`, each drawn by the logits `[1, steps, characters]` that the
    /// model gives for the last ones.
    pub fn sample(
        &self,
        session: &mut Session<f32>,
        (input, logits): (Placeholder, Fetch),
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
            let logits = session.run(logits, &[input.feed_index(&context)])?;
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
