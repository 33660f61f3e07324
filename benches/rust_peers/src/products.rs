//! Matrix products of ours, of the gemm crate and of MKL, in turns, as rows of a table in GFLOP/s.

use crate::Result;
use gemm::Parallelism;
use gradtape::{Feed, Fetch, Scalar, Session, Tape, Tensor};
use libloading::Library;
use std::ffi::{c_char, c_int};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Operands are column-major; the first is given transposed in TN, the second in NT. The numbers
/// are m, n, k of (m, k) (k, n): squares, then layers of mlp_mnist, then of mlp_large.
const CASES: [(&str, [usize; 3]); 15] = [
    ("NN", [64, 64, 64]),
    ("NN", [128, 128, 128]),
    ("NN", [256, 256, 256]),
    ("NN", [512, 512, 512]),
    ("NN", [1024, 1024, 1024]),
    ("NN", [2048, 2048, 2048]),
    ("NN", [128, 256, 784]),
    ("TN", [784, 256, 128]),
    ("NN", [128, 128, 256]),
    ("NT", [128, 256, 128]),
    ("NN", [128, 10, 128]),
    ("NN", [512, 2048, 1024]),
    ("NN", [512, 2048, 2048]),
    ("NT", [512, 2048, 2048]),
    ("TN", [2048, 2048, 512]),
];

/// A product of one type by MKL.
type CblasGemm<T> = unsafe extern "C" fn(
    c_int,
    c_int,
    c_int,
    c_int,
    c_int,
    c_int,
    T,
    *const T,
    c_int,
    *const T,
    c_int,
    T,
    *mut T,
    c_int,
);

/// Prints a row of each product: ours, gemm, MKL. `mkl` is the path of its libmkl_rt.
pub fn compare<T: Scalar>(threads: usize, mkl: Option<&str>) -> Result<()> {
    let mkl = mkl.map(|path| Mkl::load(path, threads as c_int)).transpose()?;
    if let Some(mkl) = &mkl {
        println!("{}", mkl.version()?);
    }
    let cblas = mkl.as_ref().map(Mkl::gemm).transpose()?;
    println!("| m × n × k | type | threads | ours | gemm | MKL | ours / MKL | ours / gemm |");
    println!("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (kind, extents) in CASES {
        row::<T>(kind, extents, threads, cblas)?;
    }
    Ok(())
}

struct Mkl(Library);

impl Mkl {
    fn load(path: &str, threads: c_int) -> Result<Mkl> {
        // SAFETY: MKL's initialization asks for nothing. The function is
        // `void MKL_Set_Num_Threads(int)`, called before any product.
        unsafe {
            let library = Library::new(path)?;
            library.get::<unsafe extern "C" fn(c_int)>(b"MKL_Set_Num_Threads")?(threads);
            Ok(Mkl(library))
        }
    }

    fn version(&self) -> Result<String> {
        let mut text = [0u8; 200];
        // SAFETY: `void mkl_get_version_string(char*, int)` writes at most that many bytes.
        unsafe {
            let name = b"mkl_get_version_string";
            let write = self.0.get::<unsafe extern "C" fn(*mut c_char, c_int)>(name)?;
            write(text.as_mut_ptr().cast(), text.len() as c_int);
        }
        Ok(String::from_utf8_lossy(&text).trim_matches(['\0', ' ']).to_string())
    }

    /// The product of this type, with integers of 32 bits, MKL's default. Not to be called when the
    /// library is gone.
    fn gemm<T: Scalar>(&self) -> Result<CblasGemm<T>> {
        let name: &[u8] = if T::NAME == "f32" { b"cblas_sgemm" } else { b"cblas_dgemm" };
        // SAFETY: scalars are f32 and f64, and the name is that of the type.
        Ok(unsafe { *self.0.get::<CblasGemm<T>>(name)? })
    }
}

fn row<T: Scalar>(
    kind: &str,
    [m, n, k]: [usize; 3],
    threads: usize,
    cblas: Option<CblasGemm<T>>,
) -> Result<()> {
    let numbers = |n: usize| (0..n).map(|i| T::lit((i % 17) as f64 - 8.0)).collect::<Vec<T>>();
    let (ta, tb) = (kind.starts_with('T'), kind.ends_with('T'));
    let a = Tensor::new(if ta { [k, m] } else { [m, k] }, numbers(m * k))?;
    let b = Tensor::new(if tb { [n, k] } else { [k, n] }, numbers(k * n))?;

    let tape = Tape::<T>::new();
    let (pa, pb) = (tape.placeholder("a", a.shape()), tape.placeholder("b", b.shape()));
    let product = match (ta, tb) {
        (true, _) => pa.t().matmul(pb),
        (_, true) => pa.matmul(pb.t()),
        _ => pa.matmul(pb),
    };
    let mut session = Session::new(&tape)?.with_threads(threads)?;
    let fetches: Vec<Fetch> = vec![product.into()];
    let feeds: Vec<Feed<'_, T>> = vec![pa.feed(&a), pb.feed(&b)];
    let mut out = Vec::new();
    session.run_into(&fetches, &feeds, &mut out)?;

    let (a, b) = (a.as_slice(), b.as_slice());
    let (mut by_gemm, mut by_mkl) = (numbers(m * n), numbers(m * n));
    let mut seconds = [const { Vec::new() }; 3];
    for order in [[0, 1, 2], [2, 1, 0]] {
        for who in order {
            let times = &mut seconds[who];
            match (who, cblas) {
                (0, _) => {
                    // It ran just now with these feeds, so it does not fail.
                    time(times, &mut || drop(session.run_into(&fetches, &feeds, &mut out)));
                }
                (1, _) => {
                    time(times, &mut || gemm_crate([m, n, k], ta, tb, a, b, &mut by_gemm, threads))
                }
                (_, Some(cblas)) => {
                    time(times, &mut || call_mkl(cblas, [m, n, k], ta, tb, a, b, &mut by_mkl))
                }
                _ => {}
            }
        }
    }
    if by_gemm != out[0].as_slice() || (cblas.is_some() && by_mkl != by_gemm) {
        return Err(format!("{kind} {m} × {n} × {k}: expected equal products").into());
    }
    let gflops = seconds.map(|mut s| {
        s.sort_by(f64::total_cmp);
        s.get(s.len() / 2).map(|s| 2e-9 * (m * n * k) as f64 / s)
    });
    let text = |x: Option<f64>, digits| x.map_or(String::new(), |x| format!("{x:.digits$}"));
    let [ours, gemm, mkl] = gflops;
    let over = |theirs: Option<f64>| text(ours.zip(theirs).map(|(o, t)| o / t), 2);
    let figures = [text(ours, 1), text(gemm, 1), text(mkl, 1), over(mkl), over(gemm)];
    println!("| {kind} {m} × {n} × {k} | {} | {threads} | {} |", T::NAME, figures.join(" | "));
    Ok(())
}

/// Adds seconds a call, by chunks of some milliseconds.
fn time(seconds: &mut Vec<f64>, call: &mut dyn FnMut()) {
    // OpenMP's threads spin for 0.2 s after a product and would be in the way of the next one's.
    sleep(Duration::from_millis(250));
    let mut chunk = |n: usize| {
        let start = Instant::now();
        (0..n).for_each(|_| call());
        start.elapsed().as_secs_f64() / n as f64
    };
    chunk(1);
    let n = (0.003 / chunk(1)).ceil() as usize;
    let (start, mut chunks) = (Instant::now(), 0);
    while start.elapsed().as_secs_f64() < 0.12 || chunks < 3 {
        seconds.push(chunk(n));
        chunks += 1;
    }
}

fn gemm_crate<T: Scalar>(
    [m, n, k]: [usize; 3],
    ta: bool,
    tb: bool,
    a: &[T],
    b: &[T],
    c: &mut [T],
    threads: usize,
) {
    // Strides of columns and of rows.
    let a_strides = if ta { (1, k as isize) } else { (m as isize, 1) };
    let b_strides = if tb { (1, n as isize) } else { (k as isize, 1) };
    let parallelism = if threads > 1 { Parallelism::Rayon(threads) } else { Parallelism::None };
    // SAFETY: the slices have m·k, k·n and m·n elements, and the strides stay within.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            m as isize,
            1,
            false,
            a.as_ptr(),
            a_strides.0,
            a_strides.1,
            b.as_ptr(),
            b_strides.0,
            b_strides.1,
            T::zero(),
            T::one(),
            false,
            false,
            false,
            parallelism,
        );
    }
}

fn call_mkl<T: Scalar>(
    cblas: CblasGemm<T>,
    [m, n, k]: [usize; 3],
    ta: bool,
    tb: bool,
    a: &[T],
    b: &[T],
    c: &mut [T],
) {
    const COLUMN_MAJOR: c_int = 102;
    let [transposed, plain] = [112, 111];
    let given = |t: bool| if t { transposed } else { plain };
    let (lda, ldb) = (if ta { k } else { m } as c_int, if tb { n } else { k } as c_int);
    let (one, zero) = (T::one(), T::zero());
    let [rows, columns, inner] = [m, n, k].map(|extent| extent as c_int);
    // SAFETY: the slices have m·k, k·n and m·n elements, columns without gaps, as lda, ldb and ldc
    // say.
    unsafe {
        cblas(
            COLUMN_MAJOR,
            given(ta),
            given(tb),
            rows,
            columns,
            inner,
            one,
            a.as_ptr(),
            lda,
            b.as_ptr(),
            ldb,
            zero,
            c.as_mut_ptr(),
            rows,
        );
    }
}
