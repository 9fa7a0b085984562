//! The clients that institutions really have, each against the real program: every promise is written once (`promises`),
//! every client is driven by one adapter (`adapters`), and one table (`client::LACKS`) says what a client cannot do and why.
//! `cargo test --test clients lftp` runs one client, `cargo test --test clients resumes` one promise.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test stops at the first surprise, and tells what it saw"
)]

mod adapters;
mod client;
mod connections;
mod content;
#[expect(dead_code, reason = "the zone's own tests use what is left over")]
#[path = "../harness/mod.rs"]
mod harness;
mod promises;
mod scp;

/// One module per client, with one test per promise in it; behind each promise what a client must be able to do for it.
macro_rules! matrix {
    ($($client:ident)*) => { $( mod $client { promises!(crate::adapters::$client::CLIENT); } )* };
}

macro_rules! promises {
    ($client:expr) => {
        promises! { $client;
            lists_what_is_there: List;
            what_is_uploaded_arrives_unchanged_and_is_collected_unchanged: Put Get;
            an_upload_by_temporary_name_is_published_by_the_rename_only: Put Rename;
            resumes_an_interrupted_upload: Resume;
            stat_after_an_upload_tells_its_size: Put Stat;
            sixty_four_mebibytes_go_up: Put;
            sixty_four_mebibytes_come_down: Get;
            two_hundred_small_files_go_up_in_one_go: PutAll;
            the_time_of_an_uploaded_file_is_kept: PutTimed;
            the_time_of_a_collected_file_is_kept: GetTimed;
            names_of_any_script_and_length_go_up: Put;
            names_of_any_script_and_length_are_listed_and_come_down: Get;
            a_folder_of_five_thousand_files_is_listed_whole: List;
            refused_plaintext_is_reported_as_a_failure: Put;
            refused_plaintext_under_a_temporary_name_is_reported_as_a_failure: Put;
            refused_operations_leave_the_connection_usable: Put;
            other_content_under_a_taken_name_is_reported_as_a_failure: Put Overwrite;
            eight_connections_at_once_get_what_they_want: Put Get;
        }
    };
    ($client:expr; $($promise:ident: $($kind:ident)+;)*) => { $(
        #[test]
        fn $promise() {
            crate::promises::keep($client, &[$(crate::client::Kind::$kind),+], crate::promises::$promise);
        }
    )* };
}

matrix! { openssh_sftp openssh_scp lftp psftp curl rclone paramiko asyncssh ssh2_sftp_client sshfs }
