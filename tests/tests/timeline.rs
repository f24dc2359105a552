//! `rr timeline`: pages, and files for trace viewers. The page is also tested in a browser, if there is
//! one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rr_tests::gdb::Program;
use rr_tests::guest::Guest;
use rr_tests::programs::is_installed;
use rr_tests::{NO_CHECKPOINTS, Recording, Rr, run};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);

/// Makes a picture of a recording.
fn picture(rr: &Rr, recording: &Recording, name: &str, options: &[&str]) -> PathBuf {
    let file = rr.new_dir().join(name);
    let output = [&["timeline"], options, &["-o", file.to_str().unwrap()]].concat();
    recording.rr(&output).expect_success();
    file
}

/// The data in a page.
fn data(page: &Path) -> Value {
    let text = std::fs::read_to_string(page).unwrap();
    let (_, data) = text.split_once("type=\"application/json\">").expect("data");
    serde_json::from_str(data.split_once("</script>").expect("an end").0).expect("JSON")
}

fn length(value: &Value) -> u64 {
    value.as_array().unwrap().len() as u64
}

#[test]
fn a_page_has_all_events_tasks_and_checkpoints() {
    let rr = Rr::new();
    let guest = Guest::build("fork_tree");
    let options = ["--checkpoint-interval", "20e", "--checkpoint-wait"];
    let recording = rr.record(&options, &[guest.path.into_os_string()]);
    let info = recording.info();
    let page = picture(&rr, &recording, "page.html", &["--with-output"]);
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(
        !text.contains("http://") && !text.contains("https://"),
        "it needs a network"
    );
    let data = data(&page);
    for column in ["time", "row", "kind", "name", "value"] {
        assert_eq!(length(&data[column]), info.events, "{column}");
    }
    assert!(!info.checkpoints.is_empty());
    assert_eq!(length(&data["marks"]), info.checkpoints.len() as u64);
    let processes = recording.rr(&["ps"]).expect_success().out().lines().count() - 1;
    assert_eq!(length(&data["rows"]), processes as u64);
    let shown: String = (data["outputs"].as_array().unwrap().iter())
        .map(|output| output[1].as_str().unwrap())
        .collect();
    assert_eq!(shown, recording.run.out());
}

#[test]
fn a_name_cannot_end_the_data() {
    let rr = Rr::new();
    let program = Program::c("sums")
        .arg("1")
        .arg("</script><script>alert(1)</script><!--");
    let recording = rr.record(&NO_CHECKPOINTS, &program.words);
    let page = picture(&rr, &recording, "page.html", &[]);
    let command = data(&page)["command"].as_str().unwrap().to_owned();
    assert!(
        command.ends_with("</script><script>alert(1)</script><!--"),
        "{command}"
    );
    assert!(
        !std::fs::read_to_string(&page)
            .unwrap()
            .contains("alert(1)</script>")
    );
}

#[test]
fn a_file_for_trace_viewers() {
    let rr = Rr::new();
    let guest = Guest::build("threads");
    let recording = rr.record(&NO_CHECKPOINTS, &[guest.path.into_os_string()]);
    let file = picture(&rr, &recording, "trace.json", &["--format", "chrome"]);
    let trace: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).expect("JSON");
    let events = trace["traceEvents"].as_array().unwrap();
    // The slices of a task do not overlap, and only one task runs at any time.
    let mut ends: BTreeMap<i64, f64> = BTreeMap::new();
    let mut running = 0.0;
    let mut slices = 0;
    for event in events.iter().filter(|event| event["ph"] == "X") {
        slices += 1;
        let (start, length) = (event["ts"].as_f64().unwrap(), event["dur"].as_f64().unwrap());
        let end = ends.entry(event["tid"].as_i64().unwrap()).or_default();
        assert!(
            length >= 0.0 && start >= *end - 0.002,
            "{event}: the one before ends at {end}"
        );
        *end = start + length;
        if event["cat"] == "run" {
            assert!(
                start >= running - 0.002,
                "{event}: another task runs until {running}"
            );
            running = start + length;
        }
    }
    assert!(
        slices > 20 && ends.len() > 2,
        "{slices} slices of {} tasks",
        ends.len()
    );
    let arrows = |ph: &str| events.iter().filter(|event| event["ph"] == ph).count();
    assert!(arrows("s") > 0 && arrows("s") == arrows("f"));
}

/// Clicks and searches, and stores the page's answers in attributes.
const CLICKS: &str = r"
<script>
const outcome = { wrong: 0, clicks: 0 };
const box = canvas.getBoundingClientRect();
for (const event of [1, 2, 1000, 50000, 77777, D.first + N - 1]) {
    const at = timeline.place(event).time;
    timeline.view.from = at - 4000;
    timeline.view.to = at + 4000;
    timeline.draw();
    const { x, y } = timeline.place(event);
    for (const type of ['pointerdown', 'pointerup']) {
        canvas.dispatchEvent(new PointerEvent(type, { clientX: box.left + x, clientY: box.top + y, pointerId: 1 }));
    }
    outcome.clicks++;
    const said = details.textContent;
    if (!said.startsWith('event ' + event) || !said.includes(' -g ' + event + ' ')) { outcome.wrong++; outcome.said = said; }
}
query.value = 'pipe2';
query.dispatchEvent(new Event('input'));
outcome.found = found.length;
document.getElementById('next').click();
outcome.first = details.textContent;
canvas.dispatchEvent(new WheelEvent('wheel', { deltaY: -300, clientX: box.left + 400, clientY: box.top + 40, cancelable: true }));
outcome.zoomed = timeline.view.to - timeline.view.from < 8000;
document.getElementById('all').click();
timeline.draw();
document.body.dataset.outcome = JSON.stringify(outcome);
</script>";

#[test]
fn a_hundred_thousand_events_in_a_browser() {
    let browsers = ["chromium", "chromium-browser", "google-chrome"];
    let Some(browser) = browsers.into_iter().find(|name| is_installed(name)) else {
        eprintln!("skipped: there is no Chromium here (on Debian: apt-get install chromium)");
        return;
    };
    let rr = Rr::new();
    let options = ["-n", "--checkpoint-interval", "10000e", "--checkpoint-wait"];
    let recording = rr.record(&options, &Program::c("sums").arg("20000").words);
    let events = recording.info().events;
    assert!(events > 100_000, "{events}");
    let page = picture(&rr, &recording, "page.html", &[]);
    let mut text = std::fs::read_to_string(&page).unwrap();
    text.push_str(CLICKS);
    std::fs::write(&page, text).unwrap();

    let profile = rr.new_dir();
    let mut command = Command::new(browser);
    command
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ])
        .args(["--window-size=1400,800", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("file://{}", page.display()));
    let run = run(&mut command, LIMIT).expect_success();
    let dom = run.out();
    let body = dom
        .split("<body")
        .nth(1)
        .and_then(|b| b.split('>').next())
        .expect("a body");
    let attribute = |name: &str| {
        let value = body.split(&format!("data-{name}=\"")).nth(1)?.split('"').next()?;
        Some(value.replace("&quot;", "\""))
    };
    assert_eq!(attribute("error"), None, "the page has an error");
    assert_eq!(attribute("events"), Some(events.to_string()), "{body}");
    // The last frame shows all events.
    assert_eq!(attribute("looked"), Some(events.to_string()), "{body}");
    let took: f64 = attribute("draw-ms").expect("a time").parse().unwrap();
    eprintln!("a frame with {events} events in sight took {took} ms");
    assert!(took < 1000.0, "{took} ms a frame");
    let outcome: Value = serde_json::from_str(&attribute("outcome").expect("an outcome")).unwrap();
    assert_eq!(outcome["clicks"], 6);
    assert_eq!(outcome["wrong"], 0, "{outcome}");
    assert_eq!(outcome["found"], 20_000, "{outcome}");
    assert!(
        outcome["first"].as_str().unwrap().contains("pipe2 = 0"),
        "{outcome}"
    );
    assert_eq!(outcome["zoomed"], true, "{outcome}");
}
