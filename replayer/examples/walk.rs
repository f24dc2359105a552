//! Walks along a trace at random, forwards and backwards, and compares each place that it reaches with
//! an independent replay that goes straight there: `walk TRACE SEED STEPS`.

#[path = "../../tests/tests/walks/driver.rs"]
mod driver;

use std::error::Error;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, trace, seed, steps] = &args[..] else {
        return Err("walk TRACE SEED STEPS".into());
    };
    let (seed, steps) = (seed.parse()?, steps.parse()?);
    let compared = driver::walk(Path::new(trace), seed, steps, &mut |line| println!("{line}"))?;
    println!("{compared} places compared");
    Ok(())
}
