//! The few calls of MPI that a group of processes needs, behind safe functions: a buffer in flight
//! belongs to its request, and every return code becomes an error. Knows nothing of messages.

use crate::error::{Error, ErrorKind, Result, bail};
use ::mpi::ffi;
use std::ffi::{c_char, c_int};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of a buffer: long enough to hide what a call costs, short enough for eight of them to stay
/// in a core's cache. And below 64 KiB, Open MPI sends over TCP without asking the receiver first:
/// on Ethernet its answers wait behind bulk data, which halves the rate (`benches/README.md`).
pub(crate) const SEGMENT: usize = 63 << 10;

/// A buffer of which the first `len` bytes are sent, or have been received.
pub(crate) struct Segment {
    bytes: Box<[u8]>,
    len: usize,
}

impl Segment {
    pub(crate) fn new() -> Self {
        Segment { bytes: vec![0; SEGMENT].into_boxed_slice(), len: 0 }
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// Appends as many of these bytes as there is room for, and says how many.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> usize {
        let n = bytes.len().min(SEGMENT - self.len);
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

/// All processes that were launched together, in a communicator of our own.
pub(crate) struct World {
    comm: ffi::MPI_Comm,
    rank: usize,
    size: usize,
    finalizes: bool,
}

// SAFETY: MPI was initialized for calls from any thread, one at a time. There is one World in a
// process, and all that calls MPI borrows it mutably.
unsafe impl Send for World {}

impl World {
    /// Initializes MPI, once in a process.
    pub(crate) fn init() -> Result<World> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        if TAKEN.swap(true, Ordering::SeqCst) {
            bail!(Group, "MPI: expected one group in a process, got a second");
        }
        let (mut was_initialized, mut provided, mut rank, mut size) = (0, 0, 0, 0);
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
        // SAFETY: MPI is initialized; the handles are the library's, the pointers are to locals.
        unsafe {
            let mut comm = ffi::RSMPI_COMM_NULL;
            let returning = ffi::RSMPI_ERRORS_RETURN;
            let set = ffi::MPI_Comm_set_errhandler(ffi::RSMPI_COMM_WORLD, returning);
            check("MPI_Comm_set_errhandler", set)?;
            check("MPI_Comm_dup", ffi::MPI_Comm_dup(ffi::RSMPI_COMM_WORLD, &mut comm))?;
            let set = ffi::MPI_Comm_set_errhandler(comm, returning);
            check("MPI_Comm_set_errhandler", set)?;
            check("MPI_Comm_rank", ffi::MPI_Comm_rank(comm, &mut rank))?;
            check("MPI_Comm_size", ffi::MPI_Comm_size(comm, &mut size))?;
            Ok(World { comm, rank: rank as usize, size: size as usize, finalizes: false })
        }
    }

    pub(crate) fn rank(&self) -> usize {
        self.rank
    }

    pub(crate) fn size(&self) -> usize {
        self.size
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
        // SAFETY: the box has SEGMENT bytes, and it lives, unmoved and unread, in the flight until
        // MPI has done with it. A wrong rank, or too long a message, is a return code.
        let code = unsafe {
            ffi::MPI_Irecv(
                segment.bytes.as_mut_ptr().cast(),
                SEGMENT as c_int,
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
        segment.len = (count.max(0) as usize).min(SEGMENT);
        Ok(Some((status.MPI_SOURCE as usize, segment)))
    }

    /// Lets MPI be finalized when this is dropped, as every rank must; else it is left as it is.
    pub(crate) fn finalize_on_drop(&mut self) {
        self.finalizes = true;
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
        }
    }
}

fn null_request() -> ffi::MPI_Request {
    // SAFETY: a constant of the library.
    unsafe { ffi::RSMPI_REQUEST_NULL }
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
