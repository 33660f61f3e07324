//! Training steps of candle and burn on the workloads of `benches/workloads`: same numbers, losses
//! and optimizers, and the same JSON line. And matrix products beside the gemm crate and MKL.
//!
//!     RAYON_NUM_THREADS=1 rust_peers --peer candle --workload mlp_mnist --threads 1 --seconds 1
//!     RAYON_NUM_THREADS=1 rust_peers --products f32 --threads 1 --mkl PATH/libmkl_rt.so

#[allow(dead_code)]
#[path = "../../workloads/data.rs"]
mod data;
#[path = "../../workloads/machine.rs"]
mod machine;
mod products;
mod timing;
mod with_burn;
mod with_candle;
mod workload;

use std::error::Error;
use timing::Steps;
use workload::Workload;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let option = |name: &str, default: &'static str| {
        let value = args.iter().position(|a| a == name).and_then(|i| args.get(i + 1));
        value.map_or(default, String::as_str)
    };
    let (peer, name) = (option("--peer", ""), option("--workload", ""));
    let (threads, seconds) = (option("--threads", "1"), option("--seconds", "1").parse()?);
    // Both libraries take their threads from rayon's variable, candle on its own account too.
    let given = std::env::var("RAYON_NUM_THREADS").unwrap_or_default();
    if given != threads {
        return Err(format!("expected RAYON_NUM_THREADS={threads}, got {given:?}").into());
    }
    let mkl = option("--mkl", "");
    let mkl = (!mkl.is_empty()).then_some(mkl);
    match option("--products", "") {
        "" => {}
        "f32" => return products::compare::<f32>(threads.parse()?, mkl),
        "f64" => return products::compare::<f64>(threads.parse()?, mkl),
        other => return Err(format!("expected --products f32 or f64, got {other:?}").into()),
    }
    let workload = Workload::of(name)?;
    let mut steps: Box<dyn Steps> = match peer {
        "candle" => with_candle::steps(&workload)?,
        "burn" => with_burn::steps(&workload),
        _ => return Err(format!("expected --peer candle or burn, got {peer:?}").into()),
    };
    let (k, trains) = match &workload {
        Workload::Training(training) => (training.k, true),
        _ => (1, false),
    };
    let fields = timing::measure(&mut *steps, k, trains, seconds)?;
    let head = format!("\"peer\": \"{peer}\", \"workload\": \"{name}\", \"threads\": {threads}");
    println!("{{{head}, {fields}}}");
    Ok(())
}
