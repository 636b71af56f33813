//! What every part behind the port must do, as tests that take the runtime to be tested. Enter at
//! [`runtime_conformance!`](crate::runtime_conformance), which writes a `#[tokio::test]` for each.
//!
//! | file | what |
//! |---|---|
//! | [`core`] | what a simulated runtime does too; it need only know the commands of `simulated::Program` |
//! | [`linux`] | what needs a real container: a shell, networks, cgroups. The image has busybox's applets |
//! | [`keys`] | the keys of a specification, each observed inside a real container |
//! | [`builds`] | images that the engine's own builder makes |
//! | `stage` | a node of its own for each test, and everything with its label removed afterwards |

// Assertions are what this module is for.
#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod builds;
pub mod core;
pub mod keys;
pub mod linux;
mod stage;

pub use stage::Stage;

/// Writes one `#[tokio::test]` per test of the suite named: `core`, `linux`, `keys` or `builds`.
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
            memory_is_enforced_and_told a_volume_is_carried);
    };
    ($runtime:expr, $image:expr, keys) => {
        $crate::runtime_conformance!(@ keys, $runtime, $image,
            a_process_is_who_it_should_be an_init_reaps a_read_only_root_has_places_to_write
            kernel_limits_and_settings_hold names_are_found_as_told a_stop_sends_its_signal
            output_is_bounded a_container_may_have_a_terminal a_tree_is_read_only a_platform_is_heeded
            a_gpu_is_given_or_refused);
    };
    ($runtime:expr, $image:expr, builds) => {
        $crate::runtime_conformance!(@ builds, $runtime, $image,
            an_image_is_built_and_leaves_nothing a_build_that_fails_says_why a_build_that_is_dropped_ends);
    };
    (@ $suite:ident, $runtime:expr, $image:expr, $($name:ident)+) => {$(
        #[tokio::test]
        async fn $name() {
            $crate::conformance::$suite::$name($runtime, $image).await;
        }
    )+};
}
