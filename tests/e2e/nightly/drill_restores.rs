//! A drill that restores goes all the way: the double of the host starts from its disk, and no recovery stays open.

use serde_json::Value;
use towline_harness::protected::HOST;

use super::host::protected;

#[test]
#[ignore = "boots QEMU for minutes: make test-all"]
fn a_drill_that_restores_starts_the_host_from_its_disk_and_closes_its_recovery() {
    let scene = protected().scene("drill-restores");
    let medium = scene.folder().join("towline.iso");
    let medium = medium.to_str().expect("UTF-8");
    let drill = ["drill", HOST, "--restore", "--memory", "1024", "--limit"];
    let report = scene.towline(&[&drill[..], &["45", "--medium", medium, "--json"]].concat());
    let report: Value = serde_json::from_str(&report).expect("JSON of drill");
    assert_eq!(report["passed"], true, "{report:#}");
    assert_eq!(report["restore"], true, "{report:#}");
    let console = report["console"].as_str().expect("a file");
    let console = std::fs::read_to_string(scene.site().join(console)).expect("the console");
    assert!(console.contains("the host is recovered"), "{console}");

    let recoveries = scene.towline(&["recovery", "list", "--all", "--json"]);
    let recoveries: Value = serde_json::from_str(&recoveries).expect("JSON of recovery list");
    let recoveries = recoveries.as_array().expect("a list");
    // The demonstration's own, and the drill's.
    assert_eq!(recoveries.len(), 2, "{recoveries:#?}");
    assert!(
        recoveries.iter().all(|it| it["state"]["is"] == "closed"),
        "{recoveries:#?}"
    );
    let doctor = scene.towline(&["doctor", HOST, "--json"]);
    let doctor: Value = serde_json::from_str(&doctor).expect("JSON of doctor");
    let drills = doctor["hosts"][0]["drills"].as_array().expect("drills");
    assert!(
        drills
            .iter()
            .any(|it| it["restore"] == true && it["passed"] == true),
        "{drills:#?}"
    );
}
