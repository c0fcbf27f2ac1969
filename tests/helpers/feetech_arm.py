"""An SO-101's six servos as their registers, below LeRobot's own bus: in its place on the wire, or behind a pty."""

import json
import os
import threading
import tty
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lerobot.motors import MotorCalibration
from lerobot.motors.feetech import FeetechMotorsBus
from lerobot.motors.feetech.tables import MODEL_NUMBER_TABLE, STS_SMS_SERIES_CONTROL_TABLE
from lerobot.motors.motors_bus import MotorsBusBase

MOTORS = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
REGISTERS = STS_SMS_SERIES_CONTROL_TABLE
TICKS = 4095
CALIBRATION = {
    name: MotorCalibration(id=i + 1, drive_mode=0, homing_offset=0, range_min=low, range_max=high)
    for i, (name, low, high) in enumerate(
        zip(MOTORS, (650, 700, 800, 750, 0, 2000), (3450, 3300, 3200, 3350, 4095, 3500), strict=True)
    )
}
PING, READ, WRITE, SYNC_READ, SYNC_WRITE = 0x01, 0x02, 0x03, 0x82, 0x83


def degrees(motor: str, ticks: int) -> float:
    """What LeRobot calls a position of a motor with `use_degrees`."""
    found = CALIBRATION[motor]
    return (ticks - (found.range_min + found.range_max) / 2) * 360 / TICKS


def ticks_of(motor: str, place: float) -> int:
    """Back from degrees."""
    found = CALIBRATION[motor]
    return round(place * TICKS / 360 + (found.range_min + found.range_max) / 2)


class FakeServos:
    """Registers of six servos, which are at once where they are sent, unless they are `stuck`.

    log: (name of the register, motor, value) of every write, in order.
    """

    def __init__(self) -> None:
        self.stuck = False
        self.log: list[tuple[str, str, int]] = []
        self._memory = {i + 1: bytearray(128) for i in range(len(MOTORS))}
        for name, found in CALIBRATION.items():
            self.put("Model_Number", name, MODEL_NUMBER_TABLE["sts3215"])
            self.put("Firmware_Major_Version", name, 3)
            self.put("Min_Position_Limit", name, found.range_min)
            self.put("Max_Position_Limit", name, found.range_max)
            self.put("Present_Position", name, (found.range_min + found.range_max) // 2)

    def put(self, register: str, motor: str, value: int) -> None:
        """Set a register as the servo itself would."""
        address, length = REGISTERS[register]
        self._memory[CALIBRATION[motor].id][address : address + length] = value.to_bytes(length, "little")

    def place(self, motor: str) -> int:
        """Present position in ticks."""
        return int.from_bytes(self.read(CALIBRATION[motor].id, *REGISTERS["Present_Position"]), "little")

    def read(self, number: int, address: int, length: int) -> bytes:
        return bytes(self._memory[number][address : address + length])

    def write(self, number: int, address: int, data: bytes) -> None:
        register = next(name for name, place in REGISTERS.items() if place == (address, len(data)))
        self._memory[number][address : address + len(data)] = data
        self.log.append((register, MOTORS[number - 1], int.from_bytes(data, "little")))
        if register == "Goal_Position" and not self.stuck:
            self.put("Present_Position", MOTORS[number - 1], int.from_bytes(data, "little"))

    @property
    def goals(self) -> dict[str, list[int]]:
        """Motor -> the positions it was sent, in ticks."""
        sent: dict[str, list[int]] = {name: [] for name in MOTORS}
        for register, motor, value in self.log:
            if register == "Goal_Position":
                sent[motor].append(value)
        return sent


def write_calibration(folder: Path, arm_id: str) -> None:
    """The file that LeRobot keeps of an arm once it was calibrated."""
    (folder / f"{arm_id}.json").write_text(json.dumps({name: asdict(found) for name, found in CALIBRATION.items()}))


def register_bus(servos: FakeServos) -> type[FeetechMotorsBus]:
    """LeRobot's bus without its SDK: registers are read and written where it would put packets on the wire."""

    class RegisterBus(FeetechMotorsBus):
        _has_different_ctrl_tables = False  # type: ignore[assignment]

        def __init__(self, port: str, motors: Any, calibration: Any = None) -> None:
            MotorsBusBase.__init__(self, port, motors, calibration)
            self.protocol_version = 0
            self._id_to_model_dict = {motor.id: motor.model for motor in motors.values()}
            self._id_to_name_dict = {motor.id: name for name, motor in motors.items()}
            self._is_open = False

        @property
        def is_connected(self) -> bool:
            return self._is_open

        def connect(self, handshake: bool = True) -> None:
            self._is_open = True

        def disconnect(self, disable_torque: bool = True) -> None:
            if disable_torque:
                self.disable_torque()
            self._is_open = False

        def _read(self, address: int, length: int, motor_id: int, **_: Any) -> tuple[int, int, int]:
            return int.from_bytes(servos.read(motor_id, address, length), "little"), 0, 0

        def _write(self, addr: int, length: int, motor_id: int, value: int, **_: Any) -> tuple[int, int]:
            servos.write(motor_id, addr, int(value).to_bytes(length, "little"))
            return 0, 0

        def _sync_read(self, addr: int, length: int, motor_ids: list[int], **_: Any) -> tuple[dict[int, int], int]:
            return {i: self._read(addr, length, i)[0] for i in motor_ids}, 0

        def _sync_write(self, addr: int, length: int, ids_values: dict[int, int], **_: Any) -> int:
            for i, value in ids_values.items():
                self._write(addr, length, i, value)
            return 0

    return RegisterBus


def wait_longer(monkeypatch: Any, seconds: float = 0.4) -> None:
    """Let LeRobot wait longer for a servo's answer than 50 ms: these servos share a processor with all else."""

    def set_timeout(self: Any, length: int) -> None:
        self.packet_start_time = self.getCurrentTime()
        self.packet_timeout = 1000 * seconds

    monkeypatch.setattr("lerobot.motors.feetech.feetech.patch_setPacketTimeout", set_timeout)


class ServoLine:
    """The servos behind a pty that answers Feetech's packets. port: what to give LeRobot. mute: whether they have lost
    their power."""

    def __init__(self, servos: FakeServos) -> None:
        self._servos, self.mute = servos, False
        self._ours, self._theirs = os.openpty()
        tty.setraw(self._theirs)
        self.port = os.ttyname(self._theirs)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        os.close(self._theirs)
        self._thread.join(5)
        os.close(self._ours)

    def _serve(self) -> None:
        """Until the other end is closed: find packets FF FF id length instruction parameters checksum, answer them."""
        heard = b""
        while True:
            try:
                heard += os.read(self._ours, 1024)
            except OSError:
                return
            while (start := heard.find(b"\xff\xff")) >= 0 and len(heard) >= start + 4:
                end = start + 4 + heard[start + 3]
                if len(heard) < end:
                    break
                packet, heard = heard[start + 2 : end], heard[end:]
                assert ~sum(packet[:-1]) & 0xFF == packet[-1], "wrong checksum"
                if not self.mute:
                    self._answer(packet[0], packet[2], packet[3:-1])

    def _answer(self, number: int, instruction: int, given: bytes) -> None:
        if instruction == PING:
            self._reply(number, b"")
        elif instruction == READ:
            self._reply(number, self._servos.read(number, given[0], given[1]))
        elif instruction == WRITE:
            self._servos.write(number, given[0], given[1:])
            self._reply(number, b"")
        elif instruction == SYNC_READ:
            for i in given[2:]:
                self._reply(i, self._servos.read(i, given[0], given[1]))
        elif instruction == SYNC_WRITE:
            size = given[1] + 1
            for i in range(2, len(given), size):
                self._servos.write(given[i], given[0], given[i + 1 : i + size])

    def _reply(self, number: int, data: bytes) -> None:
        body = bytes([number, len(data) + 2, 0]) + data
        os.write(self._ours, b"\xff\xff" + body + bytes([~sum(body) & 0xFF]))
