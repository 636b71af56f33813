//! What every part behind the port must do, as tests that take the runtime to be tested. Enter at
//! [`runtime_conformance!`](crate::runtime_conformance), which writes a `#[tokio::test]` for each.
//!
//! | file | what |
//! |---|---|
//! | [`core`] | what a simulated runtime does too; it need only know the commands of `simulated::Program` |
//! | [`linux`] | what needs a real container: a shell, networks, cgroups. The image has busybox's applets |
//! | `stage` | a node of its own for each test, and everything with its label removed afterwards |

// Assertions are what this module is for.
#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod core;
pub mod linux;
mod stage;

pub use stage::Stage;

/// Writes one `#[tokio::test]` per test of the suites named: `core`, `linux`, or both.
///
/// `runtime` is an expression, evaluated per test, of type `Arc<dyn Runtime>`, and `image` one of
/// type `&str`.
#[macro_export]
macro_rules! runtime_conformance {
    ($runtime:expr, $image:expr, core) => {
        $crate::runtime_conformance!(@ core, $runtime, $image,
            a_container_lives_and_goes events_tell_what_happened a_restart_keeps_the_id
            what_is_not_ours_stays_untouched errors_have_kinds networks_and_volumes_are_made_once
            a_stop_kills_after_its_grace many_containers_are_listed a_stop_lets_it_end
            a_taken_port_is_named commands_run_inside logs_are_kept_and_followed health_is_told);
    };
    ($runtime:expr, $image:expr, linux) => {
        $crate::runtime_conformance!(@ linux, $runtime, $image,
            names_resolve_on_each_network a_port_is_published
            a_volume_outlives_its_container a_secret_is_a_file containers_are_hardened
            limits_hold_inside exec_has_input_and_exit_code a_terminal_passes_every_byte
            memory_is_enforced_and_told);
    };
    (@ $suite:ident, $runtime:expr, $image:expr, $($name:ident)+) => {$(
        #[tokio::test]
        async fn $name() {
            $crate::conformance::$suite::$name($runtime, $image).await;
        }
    )+};
}
