//! What monitoring sees of a process: one registry each, with typed methods, so that no label value can come from a peer.
//! Labels are institutions and exchanges of the configuration, and the codes of closed lists. Wherever the set is closed,
//! every series is there from the start as 0, so that a rate over it works from the first event. Names are
//! `dropzone_‹noun›_‹unit|total›`. Serving them is `host::http`'s business.
//!
//! Both processes:
//! - `dropzone_build_info{version,process}`: 1
//! - `dropzone_start_time_seconds`: when the process started, seconds since 1970
//! - `dropzone_access_log_healthy`: 1 while the access log can be written; 0 means that requests are refused
//! - `dropzone_access_log_errors_total`: records that could not be written
//! - `dropzone_access_log_torn_lines_total`: lines found cut short when a log file was opened
//! - `dropzone_access_log_free_bytes`: what can still be written beside the access log

mod admission;
mod ends;
mod incidents;
mod passphrases;
mod reload;
mod retention;
mod rhythm;
mod serve;
mod work;

use prometheus::core::Collector;
use prometheus::{Gauge, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

pub use self::admission::Limit;
pub use self::ends::{ConnectionRefusal, SessionEnd, UploadOutcome};
pub use self::incidents::{IncidentMetrics, NONE as NO_EXCHANGE};
pub use self::passphrases::{HandOver, PassphraseMetrics};
pub use self::reload::ReloadMetrics;
pub use self::retention::RetentionMetrics;
pub use self::serve::{Open, Questions, ServeMetrics};
pub use self::work::{JobResult, WorkMetrics};
use super::clock::Clock;
use super::log::AccessLog;

/// Two metrics of one name, or a name that Prometheus does not allow: a mistake in this program.
#[derive(Debug, thiserror::Error)]
#[error("the metrics cannot be set up: {0}; this is a mistake in dropzone, please report it")]
pub struct MetricsError(#[from] prometheus::Error);

/// A registry with what both processes tell about themselves.
fn registry(process: &str, clock: &Clock) -> Result<Registry, MetricsError> {
    let registry = Registry::new();
    let build = IntCounterVec::new(
        Opts::new("dropzone_build_info", "Always 1; the version is in the label"),
        &["version", "process"],
    )?;
    build.with_label_values(&[env!("CARGO_PKG_VERSION"), process]).inc();
    add(&registry, &build)?;
    let start = Gauge::new("dropzone_start_time_seconds", "When this process started, seconds since 1970")?;
    start.set(clock.now().as_duration().as_secs_f64());
    add(&registry, &start)?;
    Ok(registry)
}

fn watch_log(registry: &Registry, log: &AccessLog) -> Result<(), MetricsError> {
    log.collectors().into_iter().try_for_each(|collector| registry.register(collector))?;
    Ok(())
}

fn add<C: Collector + Clone + 'static>(registry: &Registry, collector: &C) -> Result<(), MetricsError> {
    Ok(registry.register(Box::new(collector.clone()))?)
}

/// A counter with labels, registered.
fn counters(
    registry: &Registry,
    (name, help): (&str, &str),
    labels: &[&str],
) -> Result<IntCounterVec, MetricsError> {
    let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
    add(registry, &counters)?;
    Ok(counters)
}

/// A histogram of durations from a hundredth of a second to an hour, registered.
fn durations(
    registry: &Registry,
    (name, help): (&str, &str),
    labels: &[&str],
) -> Result<HistogramVec, MetricsError> {
    let buckets = vec![0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0];
    let durations = HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), labels)?;
    add(registry, &durations)?;
    Ok(durations)
}

/// Seconds since 1970, for gauges.
fn seconds(at: jiff::Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}

#[cfg(test)]
pub(super) mod tests {
    use prometheus::TextEncoder;

    use super::*;
    use crate::policy::account::LoginRefusal;
    use crate::policy::agreement::{Accept, Agreement, Collision, Exchange, Flow, Job};
    use crate::policy::arrival::State;
    use crate::policy::path::Slug;
    use crate::policy::question::Unasked;
    use crate::policy::reason::Reason;

    pub(in crate::host) fn slug(text: &str) -> Slug {
        Slug::parse(text).unwrap()
    }

    fn text(registry: &Registry) -> String {
        TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
    }

    fn clock() -> Clock {
        Clock::fixed("2026-11-21T12:00:00Z".parse().unwrap())
    }

    fn exchange() -> Exchange {
        let agreement = Agreement { from: jiff::civil::date(2026, 1, 1), ..Agreement::default() };
        let accept = Accept {
            names: vec![],
            max_size: 1,
            armored: false,
            collision: Collision::Reject,
            unasked: Unasked::Accept,
        };
        let flow = Flow::plain(slug("hand-on"), vec![], accept, Job::Relay, vec![slug("agency")]);
        Exchange::plain(slug("pillar-3"), agreement, [].into(), vec![flow])
    }

    #[test]
    fn every_bounded_series_of_serve_is_there_from_the_start() {
        let metrics = ServeMetrics::new([slug("agency"), slug("city")].iter(), &clock()).unwrap();
        let text = text(metrics.registry());
        for line in [
            "dropzone_start_time_seconds 1795262400",
            "dropzone_connections_total 0",
            "dropzone_connections 0",
            "dropzone_sessions 0",
            "dropzone_connections_refused_total{cause=\"full\"} 0",
            "dropzone_connections_unauthenticated 0",
            "dropzone_penalties_active 0",
            "dropzone_penalties_total{cause=\"crash\"} 0",
            "dropzone_probes_total{source=\"exempt\"} 0",
            "dropzone_limits_reached_total{limit=\"idle\"} 0",
            "dropzone_authentications_total{reason=\"none\",result=\"accepted\"} 0",
            "dropzone_authentications_total{reason=\"key-expired\",result=\"refused\"} 0",
            "dropzone_uploads_total{institution=\"agency\",outcome=\"published\"} 0",
            "dropzone_uploads_refused_total{reason=\"not-encrypted\"} 0",
            "dropzone_received_bytes_total{institution=\"city\"} 0",
            "dropzone_sent_bytes_total{institution=\"agency\"} 0",
            "dropzone_upload_duration_seconds_count 0",
            "dropzone_questions_total{answer=\"not-for-us\"} 0",
            "dropzone_questions_total{answer=\"none\"} 0",
            "dropzone_question_duration_seconds_count 0",
            "dropzone_spool_full_total 0",
            "dropzone_spool_reserve_bytes 0",
            "dropzone_spool_free_bytes 0",
        ] {
            assert!(text.lines().any(|there| there == line), "{line} is missing in\n{text}");
        }
        let refusals = LoginRefusal::ALL.len() + 1;
        assert_eq!(text.matches("dropzone_authentications_total{").count(), refusals);
        assert_eq!(text.matches("dropzone_uploads_refused_total{").count(), Reason::codes().len());
    }

    #[test]
    fn every_bounded_series_of_work_is_there_from_the_start() {
        let metrics = WorkMetrics::new([exchange()].iter(), &clock()).unwrap();
        metrics.arrivals(State::Hold, 3);
        metrics.delivered(&slug("pillar-3"), &slug("agency"), clock().now());
        let text = text(metrics.registry());
        for line in [
            "dropzone_arrivals{state=\"hold\"} 3",
            "dropzone_arrivals{state=\"incoming\"} 0",
            "dropzone_oldest_waiting_arrival_seconds 0",
            "dropzone_jobs_total{exchange=\"pillar-3\",result=\"deferred\"} 0",
            "dropzone_jobs_held_total{reason=\"columns-not-agreed\"} 0",
            "dropzone_job_duration_seconds_count{kind=\"query\"} 0",
            "dropzone_deliveries_total{exchange=\"pillar-3\",receiver=\"agency\"} 1",
            "dropzone_last_delivery_timestamp_seconds{exchange=\"pillar-3\"} 1795262400",
            "dropzone_spool_free_bytes 0",
            "dropzone_log_head_timestamp_seconds 0",
            "dropzone_log_seal_failures_total 0",
            "dropzone_log_broken_files 0",
        ] {
            assert!(text.lines().any(|there| there == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn what_the_configuration_does_not_name_makes_no_new_series() {
        let metrics = ServeMetrics::new([slug("agency")].iter(), &clock()).unwrap();
        let before = text(metrics.registry()).lines().count();
        metrics.upload(&slug("stranger"), UploadOutcome::Published);
        metrics.received(&slug("stranger"), 1);
        assert_eq!(text(metrics.registry()).lines().count(), before);
    }

    #[test]
    fn the_access_log_shows_its_health() {
        let folder = tempfile::tempdir().unwrap();
        let log = AccessLog::open(folder.path(), &slug("zone-1"), "serve", clock()).unwrap();
        let metrics = ServeMetrics::new([].iter(), &clock()).unwrap();
        metrics.watch_log(&log).unwrap();
        let text = text(metrics.registry());
        assert!(text.contains("dropzone_access_log_healthy 1\n"), "{text}");
        assert!(text.contains("dropzone_access_log_errors_total 0\n"), "{text}");
    }
}
