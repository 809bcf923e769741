//! What is to be placed, and by which rules.

use std::collections::BTreeMap;

use model::config::{Config, ConfigError, DEFAULT};
use serde_json::{Map, Value};

use super::capacity::{INITIAL_RATIO, Ratio};
use super::filter::{FILTERS, Filter};
use super::weigher::{WEIGHERS, Weigher};

/// What a pool is sought for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Operation {
    #[default]
    CreateVolume,
    /// To `new_size`, on the volume's own backend.
    ExtendVolume,
    /// Anything else that needs a pool: snapshot, migration, retype, manage.
    Other,
}

/// Where a volume named in a hint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// `host@backend#pool`.
    pub host: String,
    /// `cluster@backend#pool`.
    pub cluster_name: Option<String>,
}

/// What is to be placed. Everything a decision depends on is in here or in the pools, so that it can be made again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Request {
    pub operation: Operation,
    /// For messages: the volume's id.
    pub resource_id: String,
    /// GiB.
    pub size: u64,
    /// GiB, when a volume grows.
    pub new_size: Option<u64>,
    /// Any of these zones will do; empty: by `availability_zone`.
    pub availability_zones: Vec<String>,
    pub availability_zone: Option<String>,
    /// Whether the volume is attached.
    pub attached: bool,
    /// Of its type.
    pub extra_specs: BTreeMap<String, String>,
    /// `qos.NAME` in expressions.
    pub qos_specs: Map<String, Value>,
    /// `volume.NAME` in expressions: its properties in Cinder's names.
    pub volume: Map<String, Value>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// The pools that attempts before this one were made on.
    pub attempted: Vec<String>,
    /// `OS-SCH-HNT:scheduler_hints`.
    pub hints: Map<String, Value>,
    /// Where the volumes of `same_host` and `different_host` are: those that exist and that the caller may see.
    pub places: BTreeMap<String, Place>,
    /// The hypervisors of the servers of `local_to_instance`.
    pub instance_hosts: BTreeMap<String, String>,
    /// The pool that the volume is on already: it needs no room there.
    pub exists_on: Option<String>,
    /// The backend or pool that it must be on: that of its source or its group.
    pub bound_to: Option<String>,
    /// What chance goes by.
    pub seed: u64,
}

impl Request {
    /// Whether the volume would be thin on a pool that can do so.
    pub(super) fn thin(&self) -> bool {
        self.extra_specs.get("provisioning:type").is_none_or(|kind| kind != "thick")
    }

    /// GiB that must be free.
    pub(super) fn needed_gb(&self) -> f64 {
        match self.new_size {
            Some(new_size) => new_size as f64 - self.size as f64,
            None => self.size as f64,
        }
    }
}

/// How pools that pass are ordered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// By the sum of normalised weights.
    #[default]
    Weighed,
    /// By lot, with chances in proportion to the sums of raw weights.
    Lottery,
    /// The simple mode: fewest volumes first.
    FewestVolumes,
}

/// The rules of the scheduler.
#[derive(Debug, Clone)]
pub struct Options {
    /// In the order in which they are asked.
    pub filters: Vec<&'static Filter>,
    pub weighers: Vec<&'static Weigher>,
    pub order: Order,
    pub capacity_multiplier: f64,
    pub allocated_capacity_multiplier: f64,
    pub volume_number_multiplier: f64,
    /// For pools that report none.
    pub over_subscription: Ratio,
    /// How often a create is tried in all; 1 turns trying elsewhere off.
    pub max_attempts: u32,
}

impl Default for Options {
    /// Cinder's defaults.
    fn default() -> Self {
        let filters = ["AvailabilityZoneFilter", "CapacityFilter", "CapabilitiesFilter"];
        Self {
            filters: FILTERS.iter().filter(|filter| filters.contains(&filter.name)).collect(),
            weighers: WEIGHERS.iter().filter(|weigher| weigher.name == "CapacityWeigher").collect(),
            order: Order::Weighed,
            capacity_multiplier: 1.0,
            allocated_capacity_multiplier: -1.0,
            volume_number_multiplier: -1.0,
            over_subscription: Ratio::Fixed(INITIAL_RATIO),
            max_attempts: 3,
        }
    }
}

impl Options {
    /// Reads the scheduler's options of `[DEFAULT]`.
    ///
    /// # Errors
    /// A filter, weigher, handler or scheduler that does not exist, or a value out of bounds.
    pub fn from_config(config: &Config) -> Result<Self, ConfigError> {
        let section = config.section(DEFAULT);
        let names = |option: &str| section.get::<Vec<String>>(option).map(Option::unwrap_or_default);
        let mut filters = Vec::new();
        for name in names("scheduler_default_filters")? {
            let filter = FILTERS.iter().find(|filter| filter.name == name);
            filters.push(filter.ok_or_else(|| {
                section.error("scheduler_default_filters", format!("there is no filter {name}"))
            })?);
        }
        let mut weighers = Vec::new();
        for name in names("scheduler_default_weighers")? {
            let weigher = WEIGHERS.iter().find(|weigher| weigher.name == name);
            weighers.push(weigher.ok_or_else(|| {
                section.error("scheduler_default_weighers", format!("there is no weigher {name}"))
            })?);
        }
        let finite = |option: &str, otherwise: f64| {
            section.float_in(option, f64::MIN..=f64::MAX).map(|number| number.unwrap_or(otherwise))
        };
        let ratio = section.get::<String>("max_over_subscription_ratio")?;
        let over_subscription = match ratio.as_deref() {
            None => Ratio::Fixed(INITIAL_RATIO),
            Some(text) => Ratio::read(text)
                .ok_or_else(|| section.error("max_over_subscription_ratio", "must be a number or auto"))?,
        };
        let attempts = section.int_in("scheduler_max_attempts", 1..=1000)?.unwrap_or(3);
        Ok(Self {
            filters,
            weighers,
            order: Self::order_of(config)?,
            capacity_multiplier: finite("capacity_weight_multiplier", 1.0)?,
            allocated_capacity_multiplier: finite("allocated_capacity_weight_multiplier", -1.0)?,
            volume_number_multiplier: finite("volume_number_multiplier", -1.0)?,
            over_subscription,
            max_attempts: u32::try_from(attempts).unwrap_or(3),
        })
    }

    /// Cinder names classes by path; only their last part counts.
    fn order_of(config: &Config) -> Result<Order, ConfigError> {
        let section = config.section(DEFAULT);
        let class = |option: &str| -> Result<String, ConfigError> {
            let path: String = section.require(option)?;
            Ok(path.rsplit('.').next().unwrap_or_default().to_owned())
        };
        match class("scheduler_driver")?.as_str() {
            "simple" | "SimpleScheduler" => return Ok(Order::FewestVolumes),
            "FilterScheduler" => {}
            other => {
                return Err(section.error("scheduler_driver", format!("there is no scheduler {other}")));
            }
        }
        match class("scheduler_weight_handler")?.as_str() {
            "OrderedHostWeightHandler" => Ok(Order::Weighed),
            "StochasticHostWeightHandler" => Ok(Order::Lottery),
            other => {
                Err(section.error("scheduler_weight_handler", format!("there is no weight handler {other}")))
            }
        }
    }
}
