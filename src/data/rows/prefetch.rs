//! Rows made on a thread of their own, handed over in blocks through a bounded queue; the memory of
//! a block goes back and is used again.

use super::Rows;
use crate::Scalar;
use crate::error::{Error, Result};
use std::fmt;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

/// Blocks that wait in the queue. One more is being filled, one more is being read.
const QUEUE: usize = 4;

/// Rows from another thread; see [`Rows::prefetch`].
pub struct Prefetch<T: Scalar, R> {
    width: usize,
    block_rows: usize,
    /// Until the thread has started.
    rows: Option<R>,
    /// Until it has ended.
    reader: Option<Reader<T>>,
    block: Block<T>,
    /// The row of the block that comes next.
    next: usize,
}

struct Block<T> {
    rows: Vec<T>,
    n_rows: usize,
}

struct Reader<T> {
    blocks: Receiver<Result<Block<T>>>,
    used: Sender<Block<T>>,
    thread: JoinHandle<()>,
}

impl<T: Scalar, R: Rows<T> + Send + 'static> Prefetch<T, R> {
    pub(super) fn new(rows: R, n_rows: usize) -> Self {
        Prefetch {
            width: rows.width(),
            block_rows: n_rows.div_ceil(QUEUE).max(1),
            rows: Some(rows),
            reader: None,
            block: Block { rows: Vec::new(), n_rows: 0 },
            next: 0,
        }
    }

    fn start(&mut self) -> Result<()> {
        let Some(rows) = self.rows.take() else { return Ok(()) };
        let (to, blocks) = sync_channel(QUEUE);
        let (used, free) = channel();
        let block_rows = self.block_rows;
        let thread = std::thread::Builder::new()
            .name("prefetch".to_string())
            .spawn(move || read(rows, block_rows, &to, &free))
            .map_err(|e| Error::io("prefetch: no thread", &e))?;
        self.reader = Some(Reader { blocks, used, thread });
        Ok(())
    }
}

/// Fills blocks until the rows end or nobody wants more.
fn read<T: Scalar>(
    mut rows: impl Rows<T>,
    block_rows: usize,
    to: &SyncSender<Result<Block<T>>>,
    free: &Receiver<Block<T>>,
) {
    loop {
        let mut memory = free.try_recv().map_or(Vec::new(), |used| used.rows);
        memory.clear();
        let (mut n_rows, mut end) = (0, None);
        while n_rows < block_rows && end.is_none() {
            match rows.advance() {
                Ok(true) => {
                    memory.extend_from_slice(rows.row());
                    n_rows += 1;
                }
                Ok(false) => end = Some(Ok(())),
                Err(e) => end = Some(Err(e)),
            }
        }
        // The rows before an error come before it.
        let gone = n_rows > 0 && to.send(Ok(Block { rows: memory, n_rows })).is_err();
        match end {
            Some(Err(e)) => {
                // Whoever has dropped the other end wants no error either.
                to.send(Err(e)).ok();
                return;
            }
            Some(Ok(())) => return,
            None if gone => return,
            None => {}
        }
    }
}

impl<T: Scalar, R: Rows<T> + Send + 'static> Rows<T> for Prefetch<T, R> {
    fn width(&self) -> usize {
        self.width
    }

    fn advance(&mut self) -> Result<bool> {
        if self.next < self.block.n_rows {
            self.next += 1;
            return Ok(true);
        }
        self.start()?;
        let Some(reader) = &self.reader else { return Ok(false) };
        match reader.blocks.recv() {
            Ok(Ok(block)) => {
                let read = std::mem::replace(&mut self.block, block);
                // A reader that is done takes no memory back.
                reader.used.send(read).ok();
                self.next = 1;
                Ok(true)
            }
            ended => {
                if let Some(Err(panic)) = self.reader.take().map(|r| r.thread.join()) {
                    std::panic::resume_unwind(panic);
                }
                ended.map_or(Ok(false), |error| error.map(|_| false))
            }
        }
    }

    fn row(&self) -> &[T] {
        let at = self.next.saturating_sub(1) * self.width;
        self.block.rows.get(at..at + self.width).unwrap_or_default()
    }
}

impl<T: Scalar, R> Drop for Prefetch<T, R> {
    fn drop(&mut self) {
        if let Some(Reader { blocks, thread, .. }) = self.reader.take() {
            // Wakes a thread that waits for room in the queue.
            drop(blocks);
            // Its panic, if it had one, would have been seen at the row that it broke.
            thread.join().ok();
        }
    }
}

impl<T: Scalar, R> fmt::Debug for Prefetch<T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prefetch of {} columns, {} rows a block", self.width, self.block_rows)
    }
}
