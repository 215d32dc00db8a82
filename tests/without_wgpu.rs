//! The errors of a program without the feature `wgpu`, and the tests that are skipped without it.

use crate::fixture::Fixture;
use crate::skips::skip;

/// Names of the tests in a source file.
fn tests_of(source: &str) -> impl Iterator<Item = &str> {
    source.split("#[test]").skip(1).map(|test| {
        let (_, named) = test.split_once("fn ").unwrap();
        named.split_once('(').unwrap().0
    })
}

#[test]
fn tests_of_wgpu_were_not_built() {
    let files = [
        ("wgpu", include_str!("wgpu.rs")),
        ("select::gpu::tests", include_str!("../crates/teach/src/select/gpu/tests.rs")),
    ];
    for (module, source) in files {
        assert!(tests_of(source).count() > 2, "{module}");
        for test in tests_of(source) {
            skip(&format!("{module}::{test}"), "not built, for want of the feature wgpu (make test GPU=1)");
        }
    }
}

#[test]
fn a_gpu_is_refused_and_auto_is_the_cpu() {
    let fixture = Fixture::new(20);
    for device in ["wgpu", "wgpu:0"] {
        let error = fixture.fails(&["cache", "recipe.toml", "--device", device]);
        assert!(error.contains("built without wgpu") && error.contains("--features wgpu"), "{device}: {error}");
    }
    fixture.ok(&["cache", "recipe.toml", "--device", "auto"]);
    // It is also refused if nothing would be computed.
    let error = fixture.fails(&["cache", "recipe.toml", "--device", "wgpu"]);
    assert!(error.contains("built without wgpu"), "{error}");
}
