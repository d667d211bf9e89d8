//! Interface `calendar`: the days and months of time zones.

use std::sync::LazyLock;

use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use crate::bindings::draft::witgate::plugin0_2_0::calendar::{Period, Window};
use crate::bindings::name;
use crate::state::HostState;

/// The time zones that the gateway was built with. The system's are not read: no call reads a file, and all gateways of a fleet
/// have the same.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// Defines the interface. Its answers depend on nothing but the parameters, so they leave no mark.
///
/// # Errors
/// None in practice: a name is defined once.
pub(super) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    linker.instance(name::CALENDAR)?.func_wrap(
        "window-at",
        |mut store: StoreContextMut<'_, HostState>, (zone, period, moment): (String, Period, u64)| {
            let state = store.data_mut();
            state.charge()?;
            Ok((zone_of(state, zone).and_then(|zone| window(zone, period, moment)),))
        },
    )
}

/// The time zone of this name. An instance keeps the last one, because most plugins use one only.
fn zone_of(state: &mut HostState, name: String) -> Option<&TimeZone> {
    if state.last_zone.as_ref().is_none_or(|(known, _)| *known != name) {
        let zone = ZONES.get(&name).ok()?;
        state.last_zone = Some((name, zone));
    }
    state.last_zone.as_ref().map(|(_, zone)| zone)
}

/// The window that holds a moment, in milliseconds since 1970; `None` after the year 9999.
fn window(zone: &TimeZone, period: Period, moment: u64) -> Option<Window> {
    let moment = Timestamp::from_millisecond(i64::try_from(moment).ok()?).ok()?;
    let date = moment.to_zoned_datetime(zone.clone()).date();
    let (first, next) = match period {
        Period::Day => (date, date.tomorrow().ok()?),
        Period::Month => (date.first_of_month(), date.last_of_month().tomorrow().ok()?),
    };
    let begins = |date: jiff::civil::Date| {
        let begin = date.to_zoned_datetime(zone.clone()).ok()?.timestamp().as_millisecond();
        Some(u64::try_from(begin).unwrap_or(0))
    };
    let name = match period {
        Period::Day => first.to_string(),
        Period::Month => format!("{:04}-{:02}", first.year(), first.month()),
    };
    Some(Window { name, begins: begins(first)?, ends: begins(next)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(zone: &str, period: Period, moment: u64) -> (String, u64, u64) {
        let window = window(&ZONES.get(zone).unwrap(), period, moment).unwrap();
        (window.name, window.begins / 1000, window.ends / 1000)
    }

    /// 2026-03-29T00:30:00Z, in the night in which the clocks of Berlin go forward.
    const SPRING: u64 = 1_774_744_200_000;

    #[test]
    fn days_and_months_are_those_of_the_zone() {
        assert_eq!(of("UTC", Period::Day, SPRING), ("2026-03-29".into(), 1_774_742_400, 1_774_828_800));
        let (name, begins, ends) = of("Europe/Berlin", Period::Day, SPRING);
        assert_eq!((&*name, ends - begins), ("2026-03-29", 23 * 3600), "the clocks go forward");
        let (name, ..) = of("America/New_York", Period::Day, SPRING);
        assert_eq!(name, "2026-03-28");
        let (name, begins, ends) = of("Europe/Berlin", Period::Month, SPRING);
        assert_eq!((&*name, ends - begins), ("2026-03", 31 * 86_400 - 3600));
        let (_, begins, ends) = of("Europe/Berlin", Period::Day, 1_792_886_400_000);
        assert_eq!(ends - begins, 25 * 3600, "the clocks go back");
    }

    #[test]
    fn windows_follow_each_other_without_gap_and_hold_their_moment() {
        // Apia left out a day, and Lord Howe's clocks move by half an hour.
        for zone in ["UTC", "Pacific/Apia", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Kathmandu"] {
            let zone = ZONES.get(zone).unwrap();
            let mut moment = 1_300_000_000_000;
            for _ in 0..1000 {
                let found = window(&zone, Period::Day, moment).unwrap();
                assert!(found.begins <= moment && moment < found.ends, "{found:?}");
                let next = window(&zone, Period::Day, found.ends).unwrap();
                assert_eq!(next.begins, found.ends, "{found:?} {next:?}");
                moment = found.ends + 1;
            }
        }
    }

    #[test]
    fn what_no_calendar_has_has_no_window() {
        let utc = ZONES.get("UTC").unwrap();
        assert!(window(&utc, Period::Day, u64::MAX).is_none());
        assert!(window(&utc, Period::Month, 253_402_300_799_000).is_none(), "the year 10000 has no name");
        assert!(window(&utc, Period::Day, 0).is_some());
        assert!(ZONES.get("Europe/Nowhere").is_err() && ZONES.get("../etc/passwd").is_err());
    }
}
