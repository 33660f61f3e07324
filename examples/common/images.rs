//! The training of a classifier of images: minibatches, Adam, a look at the test images after
//! every epoch, and the end of the example.

use super::plot::{self, Series};
use super::{Options, Result, Run, Summary};
use gradtape::data::Dataset;
use gradtape::data::metrics::ConfusionMatrix;
use gradtape::optim::{Adam, Schedule};
use gradtape::{Expr, Index, IndexExpr, Session, Tensor};
use std::fmt::Display;
use std::time::Instant;

/// How to train.
pub struct Lesson<'a> {
    pub options: &'a Options,
    pub epochs: u32,
    pub batch: usize,
    /// Learning rate at the start; it falls to 0 along a cosine.
    pub rate: f64,
    pub threads: usize,
    pub names: &'a [String],
    /// Said before the first step.
    pub about: &'a dyn Display,
}

/// What was recorded of a classifier.
pub struct Classifier<'t> {
    pub images: Expr<'t, f32>,
    pub labels: IndexExpr<'t, f32>,
    /// The logits in training, and what else a step of training writes.
    pub training: Expr<'t, f32>,
    pub updates: Vec<Expr<'t, f32>>,
    /// The logits in use.
    pub logits: Expr<'t, f32>,
}

/// Test images that are looked at together: their activations are what takes memory.
const TOGETHER: usize = 1000;

impl Classifier<'_> {
    pub fn learn(&self, lesson: &Lesson, [train, test]: [Dataset<f32, Index>; 2]) -> Result {
        let Lesson { options, names, .. } = *lesson;
        let mut batches = train.batches(lesson.batch)?.shuffle(options.seed);
        let mut test_batches = test.batches(TOGETHER)?;
        let test_labels = test.y()?;

        let loss = self.training.softmax_cross_entropy(self.labels).mean();
        let test_loss = self.logits.softmax_cross_entropy(self.labels).sum();
        let predicted = self.logits.argmax(-1);
        let (epochs, n_batches) = (lesson.epochs as usize, batches.n_batches());
        let n_steps = (epochs * n_batches) as u64;
        let rate = Schedule::Cosine { rate: lesson.rate, end: 0.0, n_steps };
        let step = Adam::new(rate).minimize(loss)?;
        let mut run = Run::start(options, n_steps as usize)?;
        run.say(lesson.about)?;

        let mut session = Session::new(loss.tape())?.with_threads(lesson.threads)?;
        let mut evaluate = |session: &mut Session<f32>| -> Result<(f64, ConfusionMatrix)> {
            let (mut x, mut y, mut out) = Default::default();
            let (mut sum, mut all) = (0.0, Vec::with_capacity(test_labels.len()));
            while test_batches.next_into(&mut x, &mut y)? {
                let feeds = [self.images.feed(&x), self.labels.feed(&y)];
                session.run_into((test_loss, predicted), &feeds, &mut out)?;
                sum += f64::from(out.0.item()?);
                all.extend_from_slice(out.1.as_slice());
            }
            let confusion = ConfusionMatrix::new(&test_labels, &Tensor::vector(all), names.len())?;
            Ok((sum / test_labels.len() as f64, confusion.with_names(names)?))
        };

        // Train. Once there was a step of each size of batch, steps allocate nothing.
        let (mut x, mut y, mut out) = Default::default();
        let (mut test_loss, mut confusion) = evaluate(&mut session)?;
        let mut test_losses = vec![(0.0, test_loss)];
        let mut train_seconds = 0.0;
        for epoch in 1..=epochs {
            let started = Instant::now();
            while batches.next_into(&mut x, &mut y)? {
                let feeds = [self.images.feed(&x), self.labels.feed(&y)];
                session.run_into((loss, step, &self.updates), &feeds, &mut out)?;
                run.step(out.0.item()?.into(), ("test accuracy", confusion.accuracy()));
            }
            let seconds = started.elapsed().as_secs_f64();
            train_seconds += seconds;
            (test_loss, confusion) = evaluate(&mut session)?;
            test_losses.push((epoch as f64, test_loss));
            run.say(format_args!(
                "epoch {epoch:2}: loss {:.4}, test loss {test_loss:.4}, test accuracy {:.2} %, \
                 {seconds:.2} s, {:.0} steps/s",
                run.mean_loss(n_batches),
                100.0 * confusion.accuracy(),
                n_batches as f64 / seconds,
            ))?;
        }

        let test_losses = Series { name: "test loss", points: test_losses };
        run.write("loss.svg", &plot::loss_curve(run.losses(), n_batches, &[test_losses])?)?;
        run.write("result.svg", &plot::confusion(&confusion, names)?)?;
        run.finish(
            &session,
            &Summary {
                epochs,
                final_loss: run.mean_loss(n_batches),
                metric: "test accuracy",
                value: confusion.accuracy(),
                more: &[
                    ("test_loss", test_loss),
                    ("epoch_seconds", train_seconds / epochs as f64),
                    ("steps_per_second", n_steps as f64 / train_seconds),
                ],
            },
        )
    }
}
