//! Addresses and routes, through a netlink socket (rtnetlink(7)).
//!
//! The messages are netlink-packet-route's. rtnetlink's own client would bring the parsers of every message there is, 0.4 MB
//! of a program that may have 4 MiB, for three requests whose only answer is a number.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use netlink_packet_core::Emitable;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
    RouteType,
};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily as SocketFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto,
    socket_with,
};

/// Types and flags of requests (linux/rtnetlink.h, linux/netlink.h).
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;

/// Bytes of `struct nlmsghdr`: length, type, flags, sequence number, port.
const HEADER_BYTES: usize = 16;

/// The kernel answers at once or never.
const ANSWER_WAIT: Duration = Duration::from_secs(5);

/// A route: destination, prefix length, gateway. Without a gateway (0.0.0.0) it is on the link itself.
pub(super) type Route = (Ipv4Addr, u8, Ipv4Addr);

/// A socket to the kernel's routing tables.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket.
    pub(super) fn open() -> io::Result<Self> {
        let socket = socket_with(
            SocketFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            // NETLINK_ROUTE is 0, the family's default.
            None,
        )?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_WAIT))?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Gives an interface an address, or renews it.
    pub(super) fn add_address(
        &mut self,
        index: u32,
        address: Ipv4Addr,
        length: u8,
    ) -> io::Result<()> {
        let message = address_message(index, address, length);
        self.request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &message)
    }

    /// Takes an address away.
    pub(super) fn remove_address(
        &mut self,
        index: u32,
        address: Ipv4Addr,
        length: u8,
    ) -> io::Result<()> {
        self.request(RTM_DELADDR, 0, &address_message(index, address, length))
    }

    /// Adds a route, or replaces the one with the same destination and metric.
    pub(super) fn add_route(&mut self, index: u32, route: Route, metric: u32) -> io::Result<()> {
        let message = route_message(index, route, metric);
        self.request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &message)
    }

    /// Removes a route.
    pub(super) fn remove_route(&mut self, index: u32, route: Route, metric: u32) -> io::Result<()> {
        self.request(RTM_DELROUTE, 0, &route_message(index, route, metric))
    }

    fn request(&mut self, kind: u16, flags: u16, body: &impl Emitable) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = vec![0; HEADER_BYTES + body.buffer_len()];
        let length = u32::try_from(message.len()).map_err(io::Error::other)?;
        let flags = flags | NLM_F_REQUEST | NLM_F_ACK;
        message[0..4].copy_from_slice(&length.to_ne_bytes());
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        message[6..8].copy_from_slice(&flags.to_ne_bytes());
        message[8..12].copy_from_slice(&self.sequence.to_ne_bytes());
        body.emit(&mut message[HEADER_BYTES..]);
        sendto(
            &self.socket,
            &message,
            SendFlags::empty(),
            &SocketAddrNetlink::new(0, 0),
        )?;
        let mut answer = [0; 4096];
        loop {
            let (bytes, _) = recv(&self.socket, &mut answer, RecvFlags::empty())?;
            if let Some(result) = acknowledged(&answer[..bytes], self.sequence) {
                return result;
            }
        }
    }
}

fn address_message(index: u32, address: Ipv4Addr, length: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = length;
    message.header.index = index;
    let host_bits = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
    message.attributes = vec![
        AddressAttribute::Local(IpAddr::V4(address)),
        AddressAttribute::Address(IpAddr::V4(address)),
    ];
    if length < 31 {
        let broadcast = Ipv4Addr::from(u32::from(address) | host_bits);
        message
            .attributes
            .push(AddressAttribute::Broadcast(broadcast));
    }
    message
}

fn route_message(index: u32, (destination, length, gateway): Route, metric: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    let on_link = gateway.is_unspecified();
    message.header = RouteHeader {
        address_family: AddressFamily::Inet,
        destination_prefix_length: length,
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Boot,
        scope: if on_link {
            RouteScope::Link
        } else {
            RouteScope::Universe
        },
        kind: RouteType::Unicast,
        // Clouds give a gateway outside of the address's /32.
        flags: if on_link {
            RouteFlags::empty()
        } else {
            RouteFlags::Onlink
        },
        ..RouteHeader::default()
    };
    message.attributes = vec![RouteAttribute::Oif(index), RouteAttribute::Priority(metric)];
    if length > 0 {
        let destination = RouteAttribute::Destination(RouteAddress::Inet(destination));
        message.attributes.push(destination);
    }
    if !on_link {
        let gateway = RouteAttribute::Gateway(RouteAddress::Inet(gateway));
        message.attributes.push(gateway);
    }
    message
}

/// What the kernel says to the request with this number; `None` when the message is about something else.
fn acknowledged(answer: &[u8], sequence: u32) -> Option<io::Result<()>> {
    let word = |at: usize| answer.get(at..at + 4).and_then(|it| it.try_into().ok());
    let kind: [u8; 2] = answer.get(4..6)?.try_into().ok()?;
    if u16::from_ne_bytes(kind) != NLMSG_ERROR || u32::from_ne_bytes(word(8)?) != sequence {
        return None;
    }
    match i32::from_ne_bytes(word(HEADER_BYTES)?) {
        0 => Some(Ok(())),
        negated => Some(Err(io::Error::from_raw_os_error(-negated))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kind: u16, sequence: u32, code: i32) -> Vec<u8> {
        let mut bytes = vec![0; 20];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        bytes[16..20].copy_from_slice(&code.to_ne_bytes());
        bytes
    }

    #[test]
    fn only_the_answer_to_this_request_ends_it() {
        assert!(acknowledged(&answer(NLMSG_ERROR, 7, 0), 7).unwrap().is_ok());
        let refused = acknowledged(&answer(NLMSG_ERROR, 7, -17), 7)
            .unwrap()
            .unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AlreadyExists);
        assert!(acknowledged(&answer(NLMSG_ERROR, 6, 0), 7).is_none());
        assert!(acknowledged(&answer(RTM_NEWADDR, 7, 0), 7).is_none());
        assert!(acknowledged(&[], 7).is_none());
        assert!(acknowledged(&answer(NLMSG_ERROR, 7, 0)[..18], 7).is_none());
    }
}
