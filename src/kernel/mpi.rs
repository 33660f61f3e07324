//! The few calls of MPI that a group of processes needs, behind safe functions: a buffer in flight
//! belongs to its request, and every return code becomes an error. Knows nothing of messages.

use super::ulfm::Ulfm;
use crate::error::{Error, ErrorKind, Result, bail};
use ::mpi::ffi;
use std::ffi::{c_char, c_int};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of a buffer where ranks share memory: eight of them stay in a core's cache, and the kernel
/// is called less often to copy from another process.
const SHARED_SEGMENT: usize = 127 << 10;
/// And where they do not. Below 64 KiB, Open MPI sends over TCP without asking the receiver first:
/// on Ethernet its answers wait behind bulk data, which halves the rate (`benches/README.md`).
const SEGMENT: usize = 63 << 10;

/// A buffer of which the first `len` bytes are sent, or have been received.
pub(crate) struct Segment {
    bytes: Box<[u8]>,
    len: usize,
}

impl Segment {
    pub(crate) fn new(capacity: usize) -> Self {
        Segment { bytes: vec![0; capacity].into_boxed_slice(), len: 0 }
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// Appends as many of these bytes as there is room for, and says how many.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(self.bytes.len() - self.len);
        self.bytes[self.len..self.len + n].copy_from_slice(&bytes[..n]);
        self.len += n;
        n
    }
}

impl std::ops::Deref for Segment {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// A segment that MPI reads or writes until [`World::test`] gives it back.
pub(crate) struct Flight {
    request: ffi::MPI_Request,
    segment: Option<Segment>,
    receives: bool,
}

// SAFETY: a request is no more than a handle. MPI is called with it in `World::test` alone, which
// borrows the one World mutably.
unsafe impl Send for Flight {}

impl Drop for Flight {
    /// What MPI may still read or write is never freed, as no MPI can be told to stop in every
    /// case.
    fn drop(&mut self) {
        std::mem::forget(self.segment.take());
    }
}

/// All processes that were launched together, or those of them that live, in a communicator of our
/// own.
pub(crate) struct World {
    comm: ffi::MPI_Comm,
    rank: usize,
    size: usize,
    segment: usize,
    finalizes: bool,
    /// Others died before.
    survives: bool,
}

// SAFETY: MPI was initialized for calls from any thread, one at a time. There is one World in a
// process at any time, and all that calls MPI borrows it mutably, or begins when it has gone.
unsafe impl Send for World {}

/// What stays of a World that has gone without being finalized.
struct Left {
    comm: ffi::MPI_Comm,
    size: usize,
    segment: usize,
}

// SAFETY: a handle, with which MPI is called while there is no World.
unsafe impl Send for Left {}

static LEFT: Mutex<Option<Left>> = Mutex::new(None);

/// How long a rank that waits for the survivors sleeps between two looks.
const NAP: Duration = Duration::from_micros(50);

impl World {
    /// Initializes MPI, once in a process.
    pub(crate) fn init() -> Result<World> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        if TAKEN.swap(true, Ordering::SeqCst) {
            bail!(Group, "MPI: expected one group in a process, got a second");
        }
        let (mut was_initialized, mut provided) = (0, 0);
        // SAFETY: may be called at any time; the pointer is to a local.
        check("MPI_Initialized", unsafe { ffi::MPI_Initialized(&mut was_initialized) })?;
        if was_initialized != 0 {
            bail!(Group, "MPI: expected nobody to have initialized it, got an initialized one");
        }
        // SAFETY: MPI is not initialized; null arguments are allowed; statics of the library.
        let (code, wanted) = unsafe {
            let wanted = ffi::RSMPI_THREAD_SERIALIZED;
            let none = ptr::null_mut();
            (ffi::MPI_Init_thread(none, ptr::null_mut(), wanted, &mut provided), wanted)
        };
        check("MPI_Init_thread", code)?;
        if provided < wanted {
            bail!(Group, "MPI: expected thread level {wanted} (serialized), got {provided}");
        }
        let mut comm = null_comm();
        // SAFETY: MPI is initialized; the handles are the library's, the pointer is to a local.
        unsafe {
            let returning = ffi::RSMPI_ERRORS_RETURN;
            let set = ffi::MPI_Comm_set_errhandler(ffi::RSMPI_COMM_WORLD, returning);
            check("MPI_Comm_set_errhandler", set)?;
            check("MPI_Comm_dup", ffi::MPI_Comm_dup(ffi::RSMPI_COMM_WORLD, &mut comm))?;
        }
        let segment = if share_memory(comm)? { SHARED_SEGMENT } else { SEGMENT };
        World::of(comm, segment)
    }

    /// The processes of a communicator, all of which say the same of segments.
    fn of(comm: ffi::MPI_Comm, segment: usize) -> Result<World> {
        let (mut rank, mut size) = (0, 0);
        // SAFETY: a communicator that MPI has just made; the pointers are to locals.
        unsafe {
            let set = ffi::MPI_Comm_set_errhandler(comm, ffi::RSMPI_ERRORS_RETURN);
            check("MPI_Comm_set_errhandler", set)?;
            check("MPI_Comm_rank", ffi::MPI_Comm_rank(comm, &mut rank))?;
            check("MPI_Comm_size", ffi::MPI_Comm_size(comm, &mut size))?;
        }
        Ok(World {
            comm,
            rank: rank as usize,
            size: size as usize,
            segment,
            finalizes: false,
            survives: false,
        })
    }

    /// Those that live of a World that has gone without being finalized, if there is one and any of
    /// it has died. All of them must call this before the deadline.
    pub(crate) fn survivors(deadline: Duration) -> Result<Option<World>> {
        let left = LEFT.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Left { comm, size, segment }) = left else { return Ok(None) };
        let Some(ulfm) = Ulfm::find() else {
            bail!(
                Group,
                "MPI: expected one by which ranks outlive others (Open MPI 5, under `mpirun \
                 --with-ft ulfm`), got {}",
                version()
            );
        };
        // SAFETY: the communicator was ours, and is no more used.
        check("MPIX_Comm_revoke", unsafe { (ulfm.revoke)(comm) })?;
        // Whoever stands still would stop all in a `shrink`, which has no deadline.
        meet(ulfm, comm, deadline)?;
        let mut living = null_comm();
        // SAFETY: a communicator of ours; the pointer is to a local.
        check("MPIX_Comm_shrink", unsafe { (ulfm.shrink)(comm, &mut living) })?;
        let mut world = World::of(living, segment)?;
        world.survives = true;
        // Nobody may revoke it before all have it: Open MPI 5.0.11 crashes then.
        meet(ulfm, living, deadline)?;
        Ok((world.size < size).then_some(world))
    }

    /// The ranks that have died, as far as this one knows, and whether it heard that the others go
    /// on without them. An MPI that cannot tell says nothing.
    pub(crate) fn lost(&mut self) -> (Vec<usize>, bool) {
        let Some(ulfm) = Ulfm::find() else { return Default::default() };
        let mut is_revoked = 0;
        // SAFETY: the pointer is to a local. If there is an error, it is left as it is.
        unsafe { (ulfm.is_revoked)(self.comm, &mut is_revoked) };
        (self.dead(ulfm).unwrap_or_default(), is_revoked != 0)
    }

    fn dead(&mut self, ulfm: &Ulfm) -> Result<Vec<usize>> {
        // SAFETY: constants of the library; the pointers are to locals, or to as many numbers as
        // there are ranks in the group.
        unsafe {
            let [mut all, mut failed] = [ffi::RSMPI_GROUP_NULL; 2];
            check("MPIX_Comm_get_failed", (ulfm.get_failed)(self.comm, &mut failed))?;
            check("MPI_Comm_group", ffi::MPI_Comm_group(self.comm, &mut all))?;
            let mut n = 0;
            check("MPI_Group_size", ffi::MPI_Group_size(failed, &mut n))?;
            let (from, mut to) = ((0..n).collect::<Vec<_>>(), vec![0; n as usize]);
            let (read, write) = (from.as_ptr(), to.as_mut_ptr());
            let code = ffi::MPI_Group_translate_ranks(failed, n, read, all, write);
            check("MPI_Group_translate_ranks", code)?;
            ffi::MPI_Group_free(&mut all);
            ffi::MPI_Group_free(&mut failed);
            Ok(to.into_iter().filter_map(|rank| usize::try_from(rank).ok()).collect())
        }
    }

    pub(crate) fn rank(&self) -> usize {
        self.rank
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// The bytes of every segment that is sent or received here.
    pub(crate) fn segment(&self) -> usize {
        self.segment
    }

    /// Begins to send a segment.
    pub(crate) fn send(&mut self, to: usize, tag: u16, segment: Segment) -> Result<Flight> {
        let mut request = null_request();
        // SAFETY: `segment.len` bytes of the box are initialized, and it lives, unmoved and
        // unwritten, in the flight until MPI has done with it. A wrong rank is a return code.
        let code = unsafe {
            ffi::MPI_Isend(
                segment.bytes.as_ptr().cast(),
                segment.len as c_int,
                ffi::RSMPI_UINT8_T,
                to as c_int,
                tag.into(),
                self.comm,
                &mut request,
            )
        };
        let flight = Flight { request, segment: Some(segment), receives: false };
        check("MPI_Isend", code).map(|()| flight)
    }

    /// Begins to receive a segment from a rank, or from any.
    pub(crate) fn receive(
        &mut self,
        from: Option<usize>,
        tag: u16,
        mut segment: Segment,
    ) -> Result<Flight> {
        let mut request = null_request();
        // SAFETY: the box has that many bytes, and it lives, unmoved and unread, in the flight until
        // MPI has done with it. A wrong rank, or too long a message, is a return code.
        let code = unsafe {
            ffi::MPI_Irecv(
                segment.bytes.as_mut_ptr().cast(),
                segment.bytes.len() as c_int,
                ffi::RSMPI_UINT8_T,
                from.map_or(ffi::RSMPI_ANY_SOURCE, |rank| rank as c_int),
                tag.into(),
                self.comm,
                &mut request,
            )
        };
        let flight = Flight { request, segment: Some(segment), receives: true };
        check("MPI_Irecv", code).map(|()| flight)
    }

    /// The segment of a flight that has ended, and the rank that sent it (of one that was sent, no
    /// particular rank). Lets all flights go on.
    pub(crate) fn test(&mut self, flight: &mut Flight) -> Result<Option<(usize, Segment)>> {
        if flight.segment.is_none() {
            return Ok(None);
        }
        let (mut ended, mut count) = (0, 0);
        let mut status = std::mem::MaybeUninit::<ffi::MPI_Status>::zeroed();
        // SAFETY: the request is active, as its flight has its segment; the pointers are to locals.
        let code = unsafe { ffi::MPI_Test(&mut flight.request, &mut ended, status.as_mut_ptr()) };
        if let Err(e) = check("MPI_Test", code) {
            // Nobody knows who has the buffer, or whether the request still is one.
            std::mem::forget(flight.segment.take());
            return Err(e);
        }
        if ended == 0 {
            return Ok(None);
        }
        let Some(mut segment) = flight.segment.take() else { return Ok(None) };
        if !flight.receives {
            return Ok(Some((self.rank, segment)));
        }
        // SAFETY: a plain C struct, for which all zeros are valid, and which MPI_Test has filled.
        let status = unsafe { status.assume_init() };
        // SAFETY: the status of an ended receive; the pointer is to a local.
        let code = unsafe { ffi::MPI_Get_count(&status, ffi::RSMPI_UINT8_T, &mut count) };
        check("MPI_Get_count", code)?;
        segment.len = (count.max(0) as usize).min(segment.bytes.len());
        Ok(Some((status.MPI_SOURCE as usize, segment)))
    }

    /// Lets MPI be finalized when this is dropped, as every rank must; else it is left as it is. So
    /// are survivors: Open MPI 5.0.11 may wait for the dead there, and takes no offence if they end.
    pub(crate) fn finalize_on_drop(&mut self) {
        self.finalizes = !self.survives;
    }

    /// Ends all processes at once.
    pub(crate) fn abort(&mut self, code: u8) -> ! {
        // SAFETY: MPI is initialized.
        unsafe { ffi::MPI_Abort(self.comm, code.into()) };
        std::process::exit(code.into())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.finalizes {
            // SAFETY: MPI is initialized, and calling it took the World that is no more. Codes are
            // of no use here: what was to be sent has been received.
            unsafe {
                ffi::MPI_Comm_free(&mut self.comm);
                ffi::MPI_Finalize();
            }
        } else {
            let left = Left { comm: self.comm, size: self.size, segment: self.segment };
            LEFT.lock().unwrap_or_else(PoisonError::into_inner).replace(left);
        }
    }
}

/// Returns when all who live of a communicator have called this; whether some do not live is no
/// error.
fn meet(ulfm: &Ulfm, comm: ffi::MPI_Comm, deadline: Duration) -> Result<()> {
    let (mut request, mut ended) = (null_request(), 0);
    // MPI writes here when it likes: on an error it is never freed.
    let flag = Box::into_raw(Box::new(1));
    // SAFETY: a communicator of ours; the flag lives until the request has ended.
    check("MPIX_Comm_iagree", unsafe { (ulfm.iagree)(comm, flag, &mut request) })?;
    let since = Instant::now();
    while ended == 0 {
        // SAFETY: an active request, which needs no status. Its code says no more than who is dead.
        unsafe { ffi::MPI_Test(&mut request, &mut ended, ffi::RSMPI_STATUS_IGNORE) };
        if ended == 0 && since.elapsed() > deadline {
            let seconds = deadline.as_secs_f64();
            bail!(Group, "MPI: a rank that lives has not come to the survivors for {seconds} s");
        }
        std::thread::sleep(NAP);
    }
    // SAFETY: made by `Box::into_raw`, and the request that wrote to it has ended.
    drop(unsafe { Box::from_raw(flag) });
    Ok(())
}

/// Whether all processes of a communicator share memory; all of them ask, and hear the same.
fn share_memory(comm: ffi::MPI_Comm) -> Result<bool> {
    let (mut here, mut sizes) = (null_comm(), [0; 2]);
    // SAFETY: communicators that MPI has made; the constants are the library's, the pointers are to
    // locals.
    unsafe {
        let (how, none) = (ffi::RSMPI_COMM_TYPE_SHARED, ffi::RSMPI_INFO_NULL);
        let split = ffi::MPI_Comm_split_type(comm, how, 0, none, &mut here);
        check("MPI_Comm_split_type", split)?;
        for (comm, size) in [comm, here].into_iter().zip(&mut sizes) {
            check("MPI_Comm_size", ffi::MPI_Comm_size(comm, size))?;
        }
        check("MPI_Comm_free", ffi::MPI_Comm_free(&mut here))?;
    }
    Ok(sizes[0] == sizes[1])
}

fn null_comm() -> ffi::MPI_Comm {
    // SAFETY: a constant of the library.
    unsafe { ffi::RSMPI_COMM_NULL }
}

fn null_request() -> ffi::MPI_Request {
    // SAFETY: a constant of the library.
    unsafe { ffi::RSMPI_REQUEST_NULL }
}

/// The MPI that the program runs with, in a word.
fn version() -> String {
    let mut text = [0u8; 8192];
    let mut len = 0;
    // SAFETY: no MPI has names of more than MPI_MAX_LIBRARY_VERSION_STRING (Open MPI 256, MPICH
    // 8192) bytes.
    unsafe { ffi::MPI_Get_library_version(text.as_mut_ptr().cast::<c_char>(), &mut len) };
    let text = String::from_utf8_lossy(&text[..(len.max(0) as usize).min(text.len())]).into_owned();
    text.split([',', '\n', '\0']).next().unwrap_or_default().to_string()
}

/// What a return code says.
fn check(call: &str, code: c_int) -> Result<()> {
    if code == ffi::MPI_SUCCESS as c_int {
        return Ok(());
    }
    let mut text = [0u8; 8192];
    let mut len = 0;
    // SAFETY: no MPI has texts of more than MPI_MAX_ERROR_STRING (Open MPI 256, MPICH 1024) bytes.
    let known =
        unsafe { ffi::MPI_Error_string(code, text.as_mut_ptr().cast::<c_char>(), &mut len) };
    let text = match known == ffi::MPI_SUCCESS as c_int {
        true => String::from_utf8_lossy(&text[..(len.max(0) as usize).min(text.len())]).into(),
        false => format!("error {code}"),
    };
    Err(Error::new(ErrorKind::Group, format!("{call}: {text}")))
}
