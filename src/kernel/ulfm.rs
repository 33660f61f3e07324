//! The calls of User-Level Failure Mitigation, by which ranks outlive another's death. Few MPIs have
//! them, so they are looked up in the one the program runs with, and one build serves all.

use ::mpi::ffi;
use std::ffi::c_int;
use std::sync::OnceLock;

type Comm = ffi::MPI_Comm;
type Revoke = unsafe extern "C" fn(Comm) -> c_int;
type IsRevoked = unsafe extern "C" fn(Comm, *mut c_int) -> c_int;
type Iagree = unsafe extern "C" fn(Comm, *mut c_int, *mut ffi::MPI_Request) -> c_int;
type Shrink = unsafe extern "C" fn(Comm, *mut Comm) -> c_int;
type GetFailed = unsafe extern "C" fn(Comm, *mut ffi::MPI_Group) -> c_int;

/// Functions of `mpi-ext.h`, as Open MPI 5 declares them.
pub(super) struct Ulfm {
    /// Ends what any rank waits for in this communicator.
    pub(super) revoke: Revoke,
    pub(super) is_revoked: IsRevoked,
    /// Ends when all ranks that live have called it; the flag becomes that of all, by "and".
    pub(super) iagree: Iagree,
    /// A communicator of those that live.
    pub(super) shrink: Shrink,
    /// The ranks that this one knows to be dead.
    pub(super) get_failed: GetFailed,
}

impl Ulfm {
    /// The functions, if the MPI that this process runs with has all of them.
    pub(super) fn find() -> Option<&'static Ulfm> {
        static FOUND: OnceLock<Option<Ulfm>> = OnceLock::new();
        FOUND.get_or_init(Self::look_up).as_ref()
    }

    #[cfg(unix)]
    fn look_up() -> Option<Ulfm> {
        let find = |name: &std::ffi::CStr| {
            // SAFETY: a name that ends with a zero; looks among libraries that are loaded.
            let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
            (!found.is_null()).then_some(found)
        };
        // SAFETY: functions under these names are of these types in every MPI that has them: they
        // are as the proposal for the standard has them.
        unsafe {
            use std::mem::transmute as typed;
            Some(Ulfm {
                revoke: typed::<*mut libc::c_void, Revoke>(find(c"MPIX_Comm_revoke")?),
                is_revoked: typed::<*mut libc::c_void, IsRevoked>(find(c"MPIX_Comm_is_revoked")?),
                iagree: typed::<*mut libc::c_void, Iagree>(find(c"MPIX_Comm_iagree")?),
                shrink: typed::<*mut libc::c_void, Shrink>(find(c"MPIX_Comm_shrink")?),
                get_failed: typed::<*mut libc::c_void, GetFailed>(find(c"MPIX_Comm_get_failed")?),
            })
        }
    }

    #[cfg(not(unix))]
    fn look_up() -> Option<Ulfm> {
        None
    }
}
