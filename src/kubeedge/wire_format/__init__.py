"""Wire formats: frames of a link, the Internet checksum. Pure functions and values, no I/O.

Lives here:      layouts and limits (frame), RFC 1071 (checksum).
Lives elsewhere: who may send what (kubebus), the same in C for the data path (kubeedge._fastpath).
"""
